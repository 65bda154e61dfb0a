//! Which mail is a plugin's business while it comes in, and what the plugin is called.

use smtp::{Domain, ReversePath};

use crate::policy::chain::Link;

impl Link {
    /// Name in the configuration.
    pub(crate) fn name(&self) -> &str {
        &self.config.name
    }

    /// Whether it is asked about mail that comes in here.
    pub(super) fn hears(&self, listener: &str) -> bool {
        let listeners = &self.config.filter.listeners;
        listeners.is_empty() || listeners.iter().any(|name| name == listener)
    }

    /// Whether it is asked about mail from there.
    pub(super) fn is_for_sender(&self, reverse_path: &ReversePath) -> bool {
        let senders = &self.config.filter.senders;
        senders.is_empty() || senders.iter().any(|pattern| pattern.matches(reverse_path))
    }

    /// Whether it is asked about mail to there.
    pub(super) fn is_for(&self, domain: &Domain) -> bool {
        let domains = &self.config.filter.domains;
        domains.is_empty() || domains.iter().any(|pattern| pattern.matches(domain))
    }
}

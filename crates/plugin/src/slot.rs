//! A place for a plugin that can be changed while mail flows.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::error::LoadError;
use crate::host::{PluginHost, PluginSpec};
use crate::plugin::{Loaded, Plugin};

/// Holds the plugin in force. Calls under way finish on the one they began
/// with.
pub struct PluginSlot {
    current: ArcSwap<Loaded>,
}

impl PluginSlot {
    /// A slot with this plugin in force.
    pub fn new(plugin: Plugin) -> Self {
        Self {
            current: ArcSwap::new(plugin.0),
        }
    }

    /// The plugin in force.
    pub fn current(&self) -> Plugin {
        Plugin(self.current.load_full())
    }

    /// Puts another plugin in force and gives back the one before.
    pub fn replace(&self, plugin: Plugin) -> Plugin {
        let before = Plugin(self.current.swap(plugin.0));
        before.retire_idle();
        before
    }

    /// Loads and checks another plugin and puts it in force; gives back the one
    /// before.
    ///
    /// # Errors
    /// [`LoadError`]: the plugin that was in force stays so.
    pub async fn reload(&self, host: &PluginHost, spec: PluginSpec) -> Result<Plugin, LoadError> {
        Ok(self.replace(host.load(spec).await?))
    }
}

impl std::fmt::Debug for PluginSlot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let plugin = Plugin(Arc::clone(&self.current.load()));
        f.debug_tuple("PluginSlot").field(&plugin).finish()
    }
}

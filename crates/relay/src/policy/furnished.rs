//! The environment of a call with the plugin's tables, state and HTTP in it.
//!
//! Every call gets them in the one place through which all calls go, so that the environments of
//! the phases need not know of them.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use plugin::{
    Answer, AuthSummary, CallEnvironment, Candidate, HeaderField, HttpFailure, HttpRequest,
    HttpResponse, LogLevel, LookupFailure, Peer, Question, Recipient, Sender, StateStore, Table,
    TableFailure,
};

use super::resources::PluginResources;

/// See the module.
pub(super) struct Furnished {
    world: Arc<dyn CallEnvironment>,
    resources: Arc<PluginResources>,
    /// For a version on trial beside the one in force.
    is_trial: bool,
}

impl Furnished {
    pub(super) fn new(world: Arc<dyn CallEnvironment>, resources: Arc<PluginResources>) -> Self {
        Self {
            world,
            resources,
            is_trial: false,
        }
    }

    pub(super) fn on_trial(
        world: Arc<dyn CallEnvironment>,
        resources: Arc<PluginResources>,
    ) -> Self {
        Self {
            world,
            resources,
            is_trial: true,
        }
    }
}

impl CallEnvironment for Furnished {
    fn table(&self, name: &str) -> Result<Arc<dyn Table>, TableFailure> {
        self.resources.table(name)
    }

    fn state(&self) -> Option<Arc<dyn StateStore>> {
        self.resources.state()
    }

    fn http(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpFailure>> {
        self.resources.http(request, self.is_trial)
    }

    fn message_id(&self) -> String {
        self.world.message_id()
    }

    fn received_at_ms(&self) -> u64 {
        self.world.received_at_ms()
    }

    fn message_size_bytes(&self) -> u64 {
        self.world.message_size_bytes()
    }

    fn attributes(&self) -> Arc<[(String, String)]> {
        self.world.attributes()
    }

    fn origin(&self) -> Option<Peer> {
        self.world.origin()
    }

    fn envelope_sender(&self) -> Option<Sender> {
        self.world.envelope_sender()
    }

    fn envelope_recipients(&self) -> Arc<[Recipient]> {
        self.world.envelope_recipients()
    }

    fn headers(&self) -> BoxFuture<'_, Arc<[HeaderField]>> {
        self.world.headers()
    }

    fn body(&self, offset: u64, limit: u32) -> BoxFuture<'_, Option<Bytes>> {
        self.world.body(offset, limit)
    }

    fn authentication(&self) -> BoxFuture<'_, Option<AuthSummary>> {
        self.world.authentication()
    }

    fn candidates(
        &self,
        with_addresses: bool,
    ) -> BoxFuture<'_, Result<Vec<Candidate>, LookupFailure>> {
        self.world.candidates(with_addresses)
    }

    fn mta_sts_mode(&self) -> BoxFuture<'_, Option<String>> {
        self.world.mta_sts_mode()
    }

    fn queued_count(&self) -> u64 {
        self.world.queued_count()
    }

    fn lookup(&self, question: Question) -> BoxFuture<'_, Result<Answer, LookupFailure>> {
        self.world.lookup(question)
    }

    fn now_ms(&self) -> Option<u64> {
        self.world.now_ms()
    }

    fn seed(&self) -> Option<u64> {
        self.world.seed()
    }

    fn remaining_ms(&self, measured: u32) -> u32 {
        self.world.remaining_ms(measured)
    }

    fn is_log_enabled(&self, level: LogLevel, filtered: bool) -> bool {
        self.world.is_log_enabled(level, filtered)
    }

    fn wants_log(&self) -> bool {
        self.world.wants_log()
    }
}

//! Putting the candidate of a plugin in force.

use super::{Changed, Live, changed, find, shelf};
use crate::config::PluginConfig;
use crate::core::{Core, Settings};
use crate::policy::admission::{self, Place};
use crate::policy::candidate::as_plugin;
use crate::policy::chain::{Door, Link};

impl Live {
    /// Takes the component that is on trial into force, by the same checks as any other, and ends
    /// the trial. A restart keeps to it, until the plugin is reloaded by name.
    ///
    /// # Errors
    /// Why it cannot be; the version in force stays.
    pub(crate) async fn promote(&self, core: &Core, name: &str) -> Result<Changed, String> {
        let turn = self.turn().await;
        let settings = core.settings.load_full();
        let link = find(&settings, name).map_err(|error| error.to_string())?;
        let (entry, digest) = promoted(link)?;
        let rules = &settings.config.plugin_rules;
        // What was on trial, not what is in the file by now.
        let place = Place::configured(&entry);
        let fetched = admission::fetch(place, Some(digest), rules).await;
        let fetched = fetched.map_err(|refusal| {
            format!("what was on trial is not in its file any more: {refusal}")
        })?;
        let result = self
            .take(core, &settings, (link, Door::Promotion), fetched, &turn)
            .await;
        if result.is_refused() {
            return Ok(result);
        }
        let settings = core.settings.load_full();
        let new = find(&settings, name).map_err(|error| error.to_string())?;
        // A trial of itself is none.
        if let Some(gone) = &new.candidate {
            gone.hide_share();
        }
        let new = new.without_candidate();
        core.settings.store(std::sync::Arc::new(Settings {
            chain: settings.chain.with(&new),
            ..Settings::clone(&settings)
        }));
        Ok(match hold_back(&settings, link, &new).await {
            Ok(()) => Changed {
                text: result.text,
                ..changed(&new, "ok")
            },
            Err(text) => Changed {
                text: Some(text),
                ..changed(&new, "ok")
            },
        })
    }
}

/// The candidate as a plugin, and its digest.
fn promoted(link: &Link) -> Result<(PluginConfig, plugin::Digest), String> {
    let (candidate, config) = match (&link.candidate, &link.config.candidate) {
        (Some(candidate), Some(config)) => (candidate, config),
        _ => return Err(format!("plugin {} has no candidate", link.config.name)),
    };
    let Some(loaded) = candidate.plugin() else {
        let error = candidate.load_error().unwrap_or_default();
        return Err(format!("the candidate did not load: {error}"));
    };
    candidate.fits(&link.plugin)?;
    if config.config.is_some() {
        return Err(
            "the candidate has a section of its own: give the plugin its path and its section in \
             the configuration, and reload"
                .to_owned(),
        );
    }
    if let Some(pin) = link.config.sha256 {
        return Err(format!(
            "the configuration pins {pin}: give the plugin the candidate's path and sha256 = \"{}\" \
             in the configuration, and reload",
            loaded.inspect().sha256
        ));
    }
    Ok((as_plugin(&link.config, config), loaded.inspect().sha256))
}

/// Notes that the configured file is not to be taken by a restart; an error is a text for the
/// operator.
async fn hold_back(settings: &Settings, old: &Link, new: &Link) -> Result<(), String> {
    let in_force = new.plugin.inspect().sha256;
    let in_file = admission::digest(&old.config.path).await;
    let held_back = in_file.filter(|digest| *digest != in_force);
    let shelf = shelf(settings, new);
    let since_ms = new.since.0;
    let held_back: Vec<_> = held_back.into_iter().collect();
    let noted = tokio::task::spawn_blocking(move || shelf.went_back(in_force, since_ms, held_back));
    let noted = noted
        .await
        .unwrap_or_else(|ended| Err(std::io::Error::other(ended)));
    noted.map_err(|error| {
        format!(
            "the candidate is in force, but that could not be noted: a restart would take the \
             configured file again: {error}"
        )
    })
}

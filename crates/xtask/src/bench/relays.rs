//! The ways that are compared: straight into the sink, and through relays side by side.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::{Service, free_address, wait_ready};

/// One way a message can go from the injector to the sink.
pub(super) struct Way {
    /// What the table calls it.
    pub(super) name: &'static str,
    /// Where the injector connects.
    pub(super) address: SocketAddr,
    /// The relay on the way; nothing for the direct one.
    pub(super) relay: Option<Service>,
}

/// Starts the relays and waits until they are ready; the direct way comes first, the relay without
/// a plugin second.
pub(super) fn start(
    waypost: &Path,
    components: &[PathBuf],
    sink: SocketAddr,
    work_dir: &Path,
) -> anyhow::Result<Vec<Way>> {
    let component = component(components, "smarthost-table.wasm")?;
    // The relay without a plugin goes to the sink by configuration. The one with the plugin has a
    // smarthost that does not exist: only the plugin's answer can lead the mail to the sink.
    let nowhere = free_address()?;
    let plugin = plugin_config(component, sink);
    Ok(vec![
        Way {
            name: "direct",
            address: sink,
            relay: None,
        },
        relay("relay", waypost, sink, "", &work_dir.join("plain"))?,
        relay(
            "relay + override plugin",
            waypost,
            nowhere,
            &plugin,
            &work_dir.join("plugin"),
        )?,
    ])
}

/// The component of this name.
///
/// # Errors
/// When it was not built.
pub(super) fn component<'a>(components: &'a [PathBuf], name: &str) -> anyhow::Result<&'a Path> {
    let found = components.iter().find(|path| path.ends_with(name));
    let found = found.with_context(|| format!("{name} was not among what was built"))?;
    Ok(found)
}

/// Configuration of the override plugin: everything for the injector's domain goes to the sink.
fn plugin_config(component: &Path, sink: SocketAddr) -> String {
    format!(
        "[[plugin]]\nname = \"override\"\npath = {component:?}\n\
         grants = {{ route_hosts = [\"127.0.0.1\"] }}\n\n[plugin.config.routes]\n\"destination.test\" = \"{sink}\"\n",
    )
}

/// A relay with a configuration of its own, ready.
///
/// # Errors
/// When it does not start.
pub(super) fn relay(
    name: &'static str,
    waypost: &Path,
    smarthost: SocketAddr,
    plugin: &str,
    work_dir: &Path,
) -> anyhow::Result<Way> {
    std::fs::create_dir_all(work_dir)?;
    let (address, admin) = (free_address()?, free_address()?);
    let spool = work_dir.join("spool");
    let config = format!(
        "hostname = \"relay.bench.test\"\nlisten = [\"{address}\"]\n\
         relay_from = [\"127.0.0.0/8\"]\nsmarthost = \"{smarthost}\"\nspool = {spool:?}\n\n\
         [admin]\nlisten = \"{admin}\"\n\n{plugin}",
    );
    let path = work_dir.join("waypost.toml");
    std::fs::write(&path, config)?;
    let log = std::fs::File::create(work_dir.join("relay.log"))?;
    let mut command = Command::new(waypost);
    command
        .arg("run")
        .arg("--config")
        .arg(&path)
        .stdout(log.try_clone()?)
        .stderr(log);
    let mut relay = Service::start(name, &mut command)?;
    wait_ready(admin, &mut [&mut relay], Duration::from_secs(60), None)
        .with_context(|| format!("see {}", work_dir.join("relay.log").display()))?;
    Ok(Way {
        name,
        address,
        relay: Some(relay),
    })
}

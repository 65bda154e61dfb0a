//! From a file to a plugin that may be called: read, pin, compile, look at what
//! it exports and imports, link, start, check its configuration.

use std::path::Path;
use std::sync::Arc;

use tokio::sync::Semaphore;
use wasmtime::component::types::ComponentItem;
use wasmtime::component::{Component, InstancePre};

use crate::debug;
use crate::digest::Digest;
use crate::environment::empty_environment;
use crate::error::LoadError;
use crate::guest::Exports;
use crate::host::{HostCore, PluginSpec, TABLE_ELEMENTS_MAX};
use crate::idle::IdleInstances;
use crate::imports::FUNCTIONS;
use crate::phase::Phase;
use crate::plugin::{Inspection, Loaded, Plugin};
use crate::profile::Profile;
use crate::run::Run;
use crate::state::CallState;

/// Where the contract's interfaces are.
const PACKAGE: &str = "waypost:policy/";
/// The track of the contract that this relay speaks: within it versions differ
/// only by functions that were added.
const TRACK: &str = "0.1.";

/// A component and what is known from its octets.
struct Compiled {
    component: Component,
    size_bytes: u64,
    sha256: Digest,
    from_cache: bool,
}

/// `check_config`: also ask the plugin what it thinks of its configuration.
pub(crate) async fn load(
    host: &Arc<HostCore>,
    spec: PluginSpec,
    check_config: bool,
) -> Result<Plugin, LoadError> {
    check_limits(host, &spec)?;
    let compiled = {
        let host = Arc::clone(host);
        let (path, pin) = (spec.path.clone(), spec.sha256);
        tokio::task::spawn_blocking(move || compile(&host, &path, pin))
            .await
            .map_err(|error| match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_cancelled) => LoadError::ShuttingDown,
            })??
    };
    let path = spec.path.clone();
    let component = &compiled.component;
    let mismatch = |error: wasmtime::Error| LoadError::Mismatch {
        path: path.clone(),
        detail: format!("{error:#}"),
    };
    let imports = import_names(host, component, &path)?;
    let pre = link(host, component).map_err(mismatch)?;
    let exports = export_names(host, component);
    let guest = Exports::of(&pre, &exports).map_err(mismatch)?;
    let phases = phases(&guest, &spec, &exports)?;
    let mut loaded = Loaded {
        host: Arc::clone(host),
        pre,
        exports: guest,
        phases,
        calls: Semaphore::new(spec.limits.concurrency),
        idle: IdleInstances::new(spec.instances),
        inspection: Inspection {
            name: spec.name.clone(),
            path,
            size_bytes: compiled.size_bytes,
            sha256: compiled.sha256,
            identity: None,
            exports,
            imports,
            from_cache: compiled.from_cache,
        },
        profile: Arc::new(Profile::new(
            spec,
            compiled.sha256,
            Arc::clone(&host.options.clock),
        )),
    };
    loaded.inspection.identity = start(&loaded, check_config).await?;
    let loaded = Arc::new(loaded);
    host.remember(&loaded);
    Ok(Plugin(loaded))
}

/// The phases that the plugin is asked in.
fn phases(guest: &Exports, spec: &PluginSpec, names: &[String]) -> Result<Vec<Phase>, LoadError> {
    let exported: Vec<Phase> = Phase::ALL
        .into_iter()
        .filter(|&phase| guest.has(phase))
        .collect();
    if exported.is_empty() {
        return Err(LoadError::NoPhase {
            path: spec.path.clone(),
            exports: names.to_vec(),
        });
    }
    let Some(wanted) = &spec.phases else {
        return Ok(exported);
    };
    match wanted.iter().find(|&&phase| !guest.has(phase)) {
        None => Ok(wanted.clone()),
        Some(&phase) => Err(LoadError::PhaseMissing {
            plugin: spec.name.clone(),
            phase,
            exported,
        }),
    }
}

fn check_limits(host: &HostCore, spec: &PluginSpec) -> Result<(), LoadError> {
    let limits = &spec.limits;
    let micros =
        |duration: std::time::Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let day_micros = 24 * 3600 * 1_000_000;
    let most_memory = host.options.memory_bytes_max as u64;
    let ranges = [
        ("cpu (in µs)", micros(limits.cpu), day_micros),
        ("wall (in µs)", micros(limits.wall), day_micros),
        ("memory_bytes", limits.memory_bytes as u64, most_memory),
        (
            "table_elements",
            limits.table_elements as u64,
            TABLE_ELEMENTS_MAX as u64,
        ),
        (
            "host_calls",
            u64::from(limits.host_calls),
            u64::from(u32::MAX),
        ),
        ("data_bytes", limits.data_bytes as u64, most_memory),
        (
            "concurrency",
            limits.concurrency as u64,
            Semaphore::MAX_PERMITS as u64,
        ),
        (
            "instances.reuse",
            u64::from(spec.instances.reuse),
            u64::from(u32::MAX),
        ),
    ];
    match ranges
        .into_iter()
        .find(|(_, value, most)| *value == 0 || value > most)
    {
        None => Ok(()),
        Some((limit, value, most)) => Err(LoadError::Limit {
            plugin: spec.name.clone(),
            limit,
            value,
            most,
        }),
    }
}

/// Reads and compiles; takes seconds for large components.
fn compile(host: &HostCore, path: &Path, pin: Option<Digest>) -> Result<Compiled, LoadError> {
    let octets = std::fs::read(path).map_err(|source| LoadError::Read {
        path: path.to_owned(),
        source,
    })?;
    let sha256 = Digest::of(&octets);
    if let Some(expected) = pin
        && expected != sha256
    {
        return Err(LoadError::Pin {
            path: path.to_owned(),
            expected,
            found: sha256,
        });
    }
    let not_a_component = |detail: String| LoadError::NotAComponent {
        path: path.to_owned(),
        detail,
    };
    if let Some(what) = not_a_component_because(&octets) {
        return Err(not_a_component(what.to_owned()));
    }
    let from_disk = || host.cache.as_ref()?.get(&host.engine, sha256);
    let cached = host.component_in_use(sha256).or_else(from_disk);
    let from_cache = cached.is_some();
    let component = match cached {
        Some(component) => component,
        None => {
            let lean = debug::without_too_much(&octets);
            if let Some((_, found)) = &lean {
                tracing::warn!(
                    path = %path.display(),
                    bytes = found,
                    "the plugin has so much debug information that it is left out: its failures name no lines; build it with line tables only"
                );
            }
            let octets = lean.as_ref().map_or(&octets, |(lean, _)| lean);
            let component = Component::from_binary(&host.engine, octets)
                .map_err(|error| not_a_component(format!("{error:#}")))?;
            if let Some(cache) = &host.cache {
                cache.put(&component, sha256);
            }
            component
        }
    };
    Ok(Compiled {
        component,
        size_bytes: octets.len() as u64,
        sha256,
        from_cache,
    })
}

/// What a file is by its first octets, unless it is a component.
fn not_a_component_because(octets: &[u8]) -> Option<&'static str> {
    match octets.get(..8) {
        Some([0, b'a', b's', b'm', _, _, 1, 0]) => None,
        Some([0, b'a', b's', b'm', _, _, 0, 0]) => Some(
            "it is a core module; build it for wasm32-wasip2, or make it one with `wasm-tools component new`",
        ),
        _ => Some("it is no WebAssembly at all"),
    }
}

/// Whether a name is that interface of the contract, in a version that fits.
pub(crate) fn is_ours(name: &str, interface: &str) -> bool {
    name.strip_prefix(PACKAGE)
        .and_then(|rest| rest.strip_prefix(interface)?.strip_prefix('@'))
        .is_some_and(|version| version.starts_with(TRACK))
}

fn export_names(host: &HostCore, component: &Component) -> Vec<String> {
    let component_type = component.component_type();
    let exports = component_type.exports(&host.engine);
    let mut names: Vec<String> = exports.map(|(name, _)| name.to_owned()).collect();
    // Their order is the toolchain's whim.
    names.sort();
    names
}

/// Names of the imports; an error where one is the contract's but not ours: the
/// author should learn that at load, not from a trap at the first message.
fn import_names(
    host: &HostCore,
    component: &Component,
    path: &Path,
) -> Result<Vec<String>, LoadError> {
    let unknown = |import: String| LoadError::UnknownImport {
        path: path.to_owned(),
        import,
    };
    let component_type = component.component_type();
    let mut names = Vec::new();
    for (name, import) in component_type.imports(&host.engine) {
        names.push(name.to_owned());
        if !name.starts_with("waypost:") {
            continue;
        }
        let Some((_, functions)) = FUNCTIONS.iter().find(|(known, _)| is_ours(name, known)) else {
            return Err(unknown(name.to_owned()));
        };
        let ComponentItem::ComponentInstance(interface) = import.ty else {
            return Err(unknown(name.to_owned()));
        };
        for (function, item) in interface.exports(&host.engine) {
            let is_function = matches!(item.ty, ComponentItem::ComponentFunc(_));
            if is_function && !functions.contains(&function) {
                return Err(unknown(format!("{name}#{function}")));
            }
        }
    }
    Ok(names)
}

fn link(host: &HostCore, component: &Component) -> wasmtime::Result<InstancePre<CallState>> {
    let mut linker = host.linker.clone();
    // Toolchains import WASI whether it is used or not; using it is a trap.
    linker.define_unknown_imports_as_traps(component)?;
    linker.instantiate_pre(component)
}

/// Makes an instance, asks who it is and what it says of its configuration.
async fn start(plugin: &Loaded, check_config: bool) -> Result<Option<(String, String)>, LoadError> {
    let name = &plugin.profile.name;
    let failed = |step| {
        move |failure| LoadError::Start {
            plugin: name.clone(),
            step,
            failure: Box::new(failure),
        }
    };
    let turn = plugin.admit().await.map_err(failed("instantiate"))?;
    let new_run = || Run::new(plugin, plugin.state(None, empty_environment()), &turn);
    new_run()
        .within_limits(|run| Box::pin(run.instantiate()))
        .await
        .map_err(failed("instantiate"))?;
    let Some(lifecycle) = &plugin.exports.lifecycle else {
        return Ok(None);
    };
    let identity = new_run()
        .within_limits(|run| {
            Box::pin(async move {
                run.instantiate().await?;
                let (store, instance) = run.parts();
                let guest = lifecycle.load(&mut *store, &instance)?;
                Ok(guest.call_identify(store).await?)
            })
        })
        .await
        .map_err(failed("identify"))?;
    let who = Some((identity.name, identity.version));
    if !check_config {
        return Ok(who);
    }
    let messages = new_run()
        .within_limits(|run| {
            Box::pin(async move {
                run.instantiate().await?;
                let (store, instance) = run.parts();
                let guest = lifecycle.load(&mut *store, &instance)?;
                Ok(guest.call_check_config(store).await?)
            })
        })
        .await
        .map_err(failed("check-config"))?;
    if !messages.is_empty() {
        return Err(LoadError::ConfigRefused {
            plugin: name.clone(),
            messages: messages
                .iter()
                .map(|message| crate::text::one_line(message, 500))
                .collect(),
        });
    }
    Ok(who)
}

//! Who may know what: the walls inside and between crates that Cargo.toml files do not draw.

use crate::tree::{TextFile, Tree, occurrences};

/// Something that only some files may know.
struct Knowledge {
    /// What gives it away.
    words: &'static [&'static str],
    /// Whether the words are looked for inside of string literals, else in code alone.
    in_literals: bool,
    /// Where it may be: beginnings of paths, with the reason.
    allowed: &'static [(&'static str, &'static str)],
}

const TABLE: &[Knowledge] = &[
    Knowledge {
        words: &["hickory_"],
        in_literals: false,
        allowed: &[(
            "crates/mx/src/hickory.rs",
            "the one implementation of the Resolver seam",
        )],
    },
    Knowledge {
        words: &["wasmtime"],
        in_literals: false,
        allowed: &[("crates/plugin/", "the plugin host")],
    },
    Knowledge {
        words: &[
            "std::fs",
            "tokio::fs",
            "rustix::fs",
            "fs::",
            "File::",
            "OpenOptions::",
        ],
        in_literals: false,
        allowed: &[
            ("crates/spool/src/disk.rs", "FileDisk, the real Disk"),
            ("crates/relay/", "configuration, certificates"),
            (
                "crates/plugin/",
                "components and the cache of compiled ones",
            ),
            ("crates/cli/", "files that the user names"),
            ("crates/xtask/", "a development tool"),
        ],
    },
    Knowledge {
        words: &["SystemTime::now", "Timestamp::now", "Zoned::now"],
        in_literals: false,
        allowed: &[
            ("crates/relay/src/clock.rs", "the only clock"),
            ("crates/xtask/", "measures on the machine's own clock"),
        ],
    },
    Knowledge {
        words: &["Instant::now"],
        in_literals: false,
        allowed: &[
            ("crates/relay/src/clock.rs", "the only clock"),
            (
                "crates/relay/src/door.rs",
                "moves a deadline on tokio's timer, which tests can pause",
            ),
            (
                "crates/plugin/",
                "meters what a call spends, between ticks of the engine",
            ),
            ("crates/xtask/", "measures on the machine's own clock"),
            (
                "crates/cli/src/plugin_bench.rs",
                "measures calls; no relay state",
            ),
            (
                "crates/cli/src/sink",
                "a test destination that shows rates; no relay state",
            ),
        ],
    },
    Knowledge {
        words: &["\"waypost_"],
        in_literals: true,
        allowed: &[
            (
                "crates/relay/src/telemetry/table.rs",
                "one table of metric names, units and helps",
            ),
            (
                "plugins/",
                "crates of the SDK are called so; metrics of plugins have other names",
            ),
        ],
    },
    Knowledge {
        words: &["println!", "print!", "eprintln!", "eprint!"],
        in_literals: false,
        allowed: &[
            ("crates/cli/", "prints what it is asked for"),
            ("crates/xtask/", "shows progress"),
            ("plugins/", "samples may show their tests' cases"),
        ],
    },
    Knowledge {
        words: &["anyhow"],
        in_literals: false,
        allowed: &[
            ("crates/cli/", "errors end there"),
            ("crates/xtask/", "errors end there"),
        ],
    },
    Knowledge {
        words: &["tokio"],
        in_literals: false,
        allowed: &[
            ("crates/mx/", "futures of look-ups"),
            (
                "crates/spool/",
                "channels between producers and the writer thread",
            ),
            ("crates/plugin/", "calls wait for look-ups"),
            ("crates/relay/", "hands"),
            ("crates/cli/", "the runtime"),
        ],
    },
    Knowledge {
        words: &["thread::spawn", "thread::Builder", "thread::sleep"],
        in_literals: false,
        allowed: &[
            ("crates/spool/", "the writer thread"),
            ("crates/plugin/", "the epoch ticker, compilation"),
            ("crates/relay/", "hands"),
            ("crates/cli/", "the terminal"),
            ("crates/xtask/", "children's output"),
        ],
    },
    Knowledge {
        words: &[
            "TcpStream",
            "TcpListener",
            "UdpSocket",
            "UnixStream",
            "UnixListener",
        ],
        in_literals: false,
        allowed: &[
            ("crates/relay/", "everything that touches a socket"),
            ("crates/cli/", "the admin client, the sink, the sender"),
            ("crates/xtask/", "finds free ports, asks for readiness"),
        ],
    },
];

/// Product code knows only what the table gives it; tests may know everything.
pub(crate) fn who_may_know_what(tree: &Tree) -> Vec<String> {
    let mut complaints = Vec::new();
    for knowledge in TABLE {
        for file in tree.rust() {
            if !knowledge
                .allowed
                .iter()
                .any(|(path, _reason)| file.path.starts_with(path))
            {
                complain(knowledge, file, &mut complaints);
            }
        }
    }
    complaints.sort();
    complaints
}

fn complain(knowledge: &Knowledge, file: &TextFile, complaints: &mut Vec<String>) {
    let text = if knowledge.in_literals {
        &file.uncommented
    } else {
        &file.code
    };
    let mut last_line = String::new();
    for word in knowledge.words {
        for at in occurrences(text, word).filter(|&at| !file.is_test(at)) {
            let place = file.place(at);
            if place != last_line {
                let allowed: Vec<&str> = knowledge
                    .allowed
                    .iter()
                    .map(|(path, _reason)| *path)
                    .collect();
                complaints.push(format!("{place}: {word} belongs to {}", allowed.join(", ")));
                last_line = place;
            }
        }
    }
}

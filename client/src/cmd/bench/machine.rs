//! What a figure was measured on.

use serde_json::{Value, json};

/// Processor, number of cores, and the arithmetic that runs on them.
pub(crate) fn describe() -> Value {
    json!({
        "cpu": cpu(),
        "cores": cores(),
        "arithmetic": arithmetic(),
        "version": env!("CARGO_PKG_VERSION"),
        "optimised": !cfg!(debug_assertions),
    })
}

/// The same for people: name, value.
pub(crate) fn facts() -> Vec<(&'static str, String)> {
    let build = match cfg!(debug_assertions) {
        true => "NOT optimised: use a release build",
        false => "optimised",
    };
    vec![
        ("processor", format!("{}, {} cores", cpu(), cores())),
        ("arithmetic", arithmetic().to_owned()),
        ("build", format!("tocyn {}, {build}", env!("CARGO_PKG_VERSION"))),
    ]
}

/// Cores that this process may use.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|line| line.starts_with("model name"));
    let name = model.and_then(|line| line.split_once(": ")).map(|(_, name)| name);
    name.unwrap_or(std::env::consts::ARCH).to_owned()
}

/// As curve25519-dalek chooses: what was compiled in, and what the processor has.
fn arithmetic() -> &'static str {
    #[cfg(target_arch = "x86_64")]
    {
        let ifma = std::arch::is_x86_feature_detected!("avx512ifma")
            && std::arch::is_x86_feature_detected!("avx512vl");
        if cfg!(curve25519_dalek_backend = "avx512") && ifma {
            return "AVX-512 IFMA";
        }
        if std::arch::is_x86_feature_detected!("avx2") {
            return "AVX2";
        }
    }
    "portable"
}

//! {protocol, durable} <- {client, token-service, server} <- tests, and no edge among the middle three.
//! `service` has the code that both services run on, and only they use it.

use std::process::Command;

use serde_json::Value;

#[test]
fn edges_between_members_point_one_way() {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    assert_eq!(packages.len(), 8);
    for package in packages {
        let name = package["name"].as_str().unwrap();
        let allowed: &[&str] = match name {
            "tocyn-protocol" | "tocyn-durable" | "tocyn-test-postgres" => &[],
            "tocyn-client" | "tocyn-service" => &["tocyn-protocol", "tocyn-durable"],
            "tocyn-issuer" | "tocyn-relay" => {
                &["tocyn-protocol", "tocyn-durable", "tocyn-service", "tocyn-test-postgres"]
            }
            "tocyn-e2e" => &[
                "tocyn-protocol",
                "tocyn-client",
                "tocyn-issuer",
                "tocyn-relay",
                "tocyn-service",
                "tocyn-test-postgres",
            ],
            other => panic!("{other} is new: say here what it may depend on"),
        };
        for dependency in package["dependencies"].as_array().unwrap() {
            let dependency = dependency["name"].as_str().unwrap();
            assert!(
                !dependency.starts_with("tocyn-") || allowed.contains(&dependency),
                "{name} must not depend on {dependency}"
            );
        }
    }
}

//! The demo that the README promises.

use std::process::Command;

use tocyn_e2e::programs::program;
use tocyn_e2e::world::{output, succeed};

#[test]
fn the_demo_shows_what_it_says() {
    let said = succeed(&mut Command::new(program("demo")));
    for step in
        ["409 urn:tocyn:problem:token-spent", "401 urn:tocyn:problem:bad-binding", "Done: 11"]
    {
        assert!(said.contains(step), "{said}");
    }
}

#[test]
fn the_demo_takes_a_text_of_ones_own_and_refuses_what_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let demo = |name: &str, bytes: &[u8]| {
        let file = dir.path().join(name);
        std::fs::write(&file, bytes).unwrap();
        let output = output(Command::new(program("demo")).arg("--input").arg(&file));
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(demo("good", b"one\n\ntwo\n").0, Some(0));
    let (code, err) = demo("binary", b"a\xff");
    assert_eq!(code, Some(1));
    assert!(err.contains("give a text file in UTF-8"), "{err}");
}

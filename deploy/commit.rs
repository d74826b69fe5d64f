// A build script of the programs: which commit they are built from. Builds for development do not
// ask, or every commit would mean building all again.
fn main() {
    println!("cargo:rerun-if-env-changed=TOCYN_COMMIT");
    let told = std::env::var("TOCYN_COMMIT").ok();
    let commit = told.or_else(|| {
        if std::env::var("PROFILE").as_deref() != Ok("release") {
            return Some("development build".to_owned());
        }
        println!("cargo:rerun-if-changed=../.git/logs/HEAD");
        let git = std::process::Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).output();
        let git = git.ok().filter(|output| output.status.success())?;
        Some(String::from_utf8(git.stdout).ok()?.trim().to_owned())
    });
    println!("cargo:rustc-env=TOCYN_COMMIT={}", commit.as_deref().unwrap_or("unknown commit"));
}

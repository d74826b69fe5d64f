//! Writes the seeds into their folders, in place of those that are there, and shows that every
//! decoder has one and takes them all: `cargo run --bin seeds`, in this folder.

use std::path::Path;

use tocyn_fuzz::{TARGETS, seeds};

fn main() -> std::io::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
    let seeds = seeds::all();
    for target in TARGETS {
        let folder = folder.join(target.name);
        let _ = std::fs::remove_dir_all(&folder);
        std::fs::create_dir_all(&folder)?;
        let of_target = seeds.iter().filter(|(name, _, _)| *name == target.name);
        let mut has = vec![false; target.decoders.len()];
        for (_, name, input) in of_target {
            target.run(input);
            has[usize::from(input[0])] = true;
            std::fs::write(folder.join(name), input)?;
        }
        for ((decoder, _), has) in target.decoders.iter().zip(has) {
            assert!(has, "{}: {decoder} has no seed", target.name);
        }
    }
    println!("{} seeds", seeds.len());
    Ok(())
}

//! Every process is started again, one after the other, while clients go on.

use std::time::Duration;

use tocyn_e2e::cluster::Cluster;
use tocyn_e2e::faults::Dice;
use tocyn_e2e::history::{PostOutcome, check};
use tocyn_e2e::load::Load;

use crate::heavy;

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_loses_no_post_and_takes_back_no_acknowledgement() {
    let _turn = heavy().await;
    let cluster = Cluster::on_postgres(3, 2, "7d").await;
    let load = Load::new(&cluster).await;
    let running = load.start(8, &mut Dice::new(7));
    let acknowledged = || {
        load.recorder.with(|history| {
            history.posts.iter().filter(|post| post.outcome.receipt().is_some()).count()
        })
    };
    for node in &cluster.nodes {
        let before = acknowledged();
        assert_eq!(tokio::task::block_in_place(|| node.stop()), Some(0), "it drains and ends well");
        tokio::task::block_in_place(|| node.start());
        while acknowledged() < before + 100 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let state = running.finish(&load, &cluster).await;
    load.recorder.with(|history| {
        assert_eq!(check(history, &state), []);
        // Whoever was on the way got an answer, or was told nothing and asked again.
        let refused = history.posts.iter().find(|p| matches!(p.outcome, PostOutcome::Refused(_)));
        assert!(refused.is_none(), "{refused:?}");
        println!("{} posts, longest silence {:?}", history.posts.len(), load.longest_silence());
    });
}

//! A cluster that throttles, fails and loses answers.

use crate::copies::assert_whole;
use ferry_tests::{Cluster, ClusterOptions, Weather, write_flights};

#[tokio::test]
async fn no_fault_of_the_cluster_loses_or_doubles_a_row() {
    for (name, fault, trace) in [
        ("throttle", "throttle:4,op-throttle:2", "ingestion goes on after"),
        ("transient", "error:3,op-error:2", "ingestion goes on after"),
        ("lost-answer", "lost-answer:3", "the answer of"),
        ("abandoned", "op-abandon:2", "to=\"Planned\""),
        ("forgotten", "op-forget:3", "does not list the operation"),
    ] {
        let cluster = Cluster::start(ClusterOptions { fault: fault.to_owned(), ..ClusterOptions::default() }).await;
        let expected = write_flights(&cluster.source());
        cluster.submit(name, &cluster.flights_activity()).await;
        let report = cluster.finish(name).await;
        assert_whole(&cluster, &report, &expected).await;
        let log = Cluster::log_of(&cluster.coordinator);
        assert!(log.contains(trace), "{name}: the fault must have happened:\n{log}");
    }
}

#[tokio::test]
async fn a_cluster_that_is_away_while_a_run_is_planned_is_waited_for() {
    let cluster = Cluster::start(ClusterOptions { nodes: 1, relayed: true, ..ClusterOptions::default() }).await;
    std::fs::write(cluster.source().join("a.csv"), "a,b\n1,x\n2,y\n").unwrap();
    let adx = &cluster.relays.as_ref().unwrap().adx;
    adx.set(Weather::Answers(503));
    cluster.submit("away", &cluster.flights_activity()).await;
    // More looks than an address gets where nobody ever answers.
    let looks = || Cluster::log_of(&cluster.coordinator).matches("looking at the sink failed, trying again").count();
    ferry_tests::wait_for("looks", || async { (looks() >= 5).then_some(()) }).await;
    adx.set(Weather::Fair);
    let report = cluster.finish("away").await;
    assert_eq!((&report["status"], &report["rowsCopied"]), (&"Succeeded".into(), &2.into()), "{report:#}");
}

//! A cluster that throttles, fails and loses answers.

use crate::copies::assert_whole;
use ferry_tests::{Cluster, ClusterOptions, write_flights};

#[tokio::test]
async fn no_fault_of_the_cluster_loses_or_doubles_a_row() {
    for (name, fault, trace) in [
        ("throttle", "throttle:4,op-throttle:2", "ingestion goes on after"),
        ("transient", "error:3,op-error:2", "ingestion goes on after"),
        ("lost-answer", "lost-answer:3", "the answer of"),
        ("abandoned", "op-abandon:2", "to=\"Planned\""),
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

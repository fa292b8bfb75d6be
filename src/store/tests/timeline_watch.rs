//! Watches of the timeline that begin while entries are written.

use std::time::Duration;

use super::*;

#[tokio::test]
async fn what_is_written_while_a_watch_begins_is_read_or_announced() {
    let directory = tempfile::tempdir().unwrap();
    let store = open(directory.path());
    store.commit(put(image("live"))).await.unwrap();
    for round in 0..100 {
        let mac = Mac([2, 0, 0, 0, 0, round]);
        let change = put(assigned(&format!("host{round}"), mac));
        let write = tokio::spawn({
            let store = store.clone();
            async move { store.commit(change).await }
        });
        tokio::task::yield_now().await;
        // The writer is at another place of its work in each round.
        tokio::time::sleep(Duration::from_micros(100 * u64::from(round % 20))).await;
        let mut new = store.new_entries().await;
        let is_read = !store.timeline(Some(mac), 10).unwrap().is_empty();
        write.await.unwrap().unwrap();
        if !is_read {
            let entry =
                tokio::time::timeout(Duration::from_secs(30), new.recv()).await.expect("it is announced").unwrap();
            assert_eq!(entry.mac, Some(mac));
        }
    }
}

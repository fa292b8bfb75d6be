//! Files on a disk that answers late or not at all.

use super::*;

#[test]
fn a_file_on_a_disk_arrives_whole() {
    let windowed = b"blksize\x001428\0windowsize\x008\0";
    for (path, options) in [(OWN, &b""[..]), (OWN, windowed), (("127.0.0.1:0", PortUse::Single), windowed)] {
        let testbed = ServerTestbed::new(path, TftpSettings::default());
        testbed.disk.answer();
        assert_eq!(testbed.client().read("disk-300000", options, 1), bytes(300_000), "{options:?}");
        assert_eq!(testbed.ended(), ("Peer(Complete)".into(), 300_000));
        // The last block is empty.
        assert_eq!(testbed.client().read("disk-1024", b"", 1), bytes(1024));
    }
}

#[test]
fn places_that_whole_files_were_read_in_are_given_on() {
    let testbed = ServerTestbed::new(OWN, TftpSettings::default());
    let clients: Vec<Client> = (0..read_ahead::MAX_READS_PER_SOURCE).map(|_| testbed.client()).collect();
    for client in &clients {
        client.socket.send_to(b"\0\x01disk-300\0netascii\0", testbed.address).unwrap();
    }
    let waiting = testbed.client();
    waiting.ask("disk-700", b"timeout\x0020\0");
    let from = waiting.hear().1;
    waiting.send(Packet::Ack(0), from);
    // Blocks that were never sent are acknowledged: nothing comes of it.
    (1..5).for_each(|block| waiting.send(Packet::Ack(block), from));
    testbed.disk.answer();
    assert_eq!(waiting.hear().0[..4], [0, 3, 0, 1]);
}

#[test]
fn a_disk_that_does_not_answer_holds_up_its_own_clients_only() {
    let settings = TftpSettings { patience: Duration::from_millis(1500), ..TftpSettings::default() };
    let testbed = ServerTestbed::new(OWN, settings);
    let clients: Vec<Client> = (0..3).map(|_| testbed.client()).collect();
    clients[0].ask("disk-3000", b"blksize\x001428\0");
    clients[1].ask("disk-3000", b"");
    clients[2].socket.send_to(b"\0\x01disk-300\0netascii\0", testbed.address).unwrap();
    let (granted, from) = clients[0].hear();
    assert!(matches!(Packet::parse(&granted), Ok(Packet::OptionAck(_))), "{granted:?}");
    clients[0].send(Packet::Ack(0), from);
    assert_eq!(testbed.client().read("2000", b"", 1), bytes(2000), "another client's file is sent meanwhile");
    let ended: Vec<String> = (0..3).map(|_| testbed.ended().0).filter(|how| !how.contains("Complete")).collect();
    assert!(ended.iter().all(|how| how.contains("does not answer")) && ended.len() == 2, "{ended:?}");
    testbed.disk.answer();
    assert_eq!(testbed.client().read("disk-3000", b"", 1), bytes(3000), "the disk answers again");
}

#[test]
fn transfers_that_wait_for_their_turn_to_read_are_served() {
    let testbed = ServerTestbed::new(OWN, TftpSettings::default());
    let clients: Vec<Client> = (0..read_ahead::MAX_READS_PER_SOURCE * 3).map(|_| testbed.client()).collect();
    clients.iter().for_each(|client| client.ask("disk-700", b"timeout\x0020\0"));
    for client in &clients {
        let from = client.hear().1;
        client.send(Packet::Ack(0), from);
    }
    testbed.disk.answer();
    // Each asked for 20 s between retransmissions: nothing but its turn gets it its block sooner.
    let since = Instant::now();
    for client in &clients {
        assert_eq!(client.hear().0.len(), 4 + 512);
    }
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
}

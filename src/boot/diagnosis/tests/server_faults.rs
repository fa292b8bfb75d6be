//! Rows about what is wrong with this server, its kernel, a router or a BMC.

use super::*;

#[test]
fn a11_no_machine_behind_the_router_was_ever_heard() {
    let mut story = Story::new().see(0.0, Step::PoweredOn);
    story.host.as_mut().unwrap().spec.ip = Some([10, 9, 3, 7].into());
    let story = story.waits(10.0, 300.0);
    let story = story.stalls(300.0, StallReason::NoRequestRelayed, Possible, "5 min ago|near 10.9.3.7|to 10.66.0.2");
    // Another machine of that network was heard through its relay.
    let story = story.with(|segment| segment.relays = vec![[10, 9, 0, 1].into()]);
    let story = story.stalls(300.0, StallReason::NoNetworkBoot, Possible, "5 min ago|sent nothing");
    story.discover(310.0, 1).stays_well(311.0);
    let mut here = Story::new().see(0.0, Step::PoweredOn);
    here.host.as_mut().unwrap().spec.ip = Some(VM.into());
    here.stalls(300.0, StallReason::NoNetworkBoot, Possible, "sent nothing");
}

#[test]
fn a13_requests_were_lost_and_the_neighbour_table_is_full() {
    let late = || Story::new().discover_as(20.0, 1, 12, UEFI).offered(20.0).other_offer(20.1, |_| ());
    let lost = |at| {
        let at = Uptime::from_secs(at);
        move |segment: &mut Segment| segment.lost_requests = Some(LostRequests { first: at, last: at, count: 412 })
    };
    let story = late().with(lost(12)).stays_well(25.0);
    let story = story.stalls(28.0, StallReason::RequestsLost, Likely, "12 s after it began|412 requests on eth0");
    story.request(31.0).rrq(31.5, 1).stays_well(33.0);
    late().with(lost(2)).stalls(28.0, StallReason::FirstRequestLate, Likely, "spanning tree");
    let full = |segment: &mut Segment| segment.neighbour_table_full_at = Some(Uptime::from_secs(3));
    let story = || Story::new().address(0.0, 1).rrq(1.0, 7).rrq(5.0, 7);
    let story = story().with(full).stalls(6.0, StallReason::NeighbourTableFull, Likely, "2 times in 4 s");
    let story = story.transfer(9.0, TransferOutcome::Complete, 250_000);
    story.discover_as(10.0, 3, 1, DhcpClient::Ipxe).stays_well(11.0);
    let full = |segment: &mut Segment| segment.neighbour_table_full_at = Some(Uptime::from_secs(3));
    let before = Story::new().address(60.0, 1).rrq(61.0, 7).rrq(65.0, 7).rrq(69.0, 7).with(full);
    before.stalls(69.0, StallReason::TftpRepliesLost, Certain, "firewall");
}

#[test]
fn b19_pxelinux_lacks_its_second_stage() {
    let bios = DhcpClient::Firmware(BootProtocol::Pxe, Architecture(0));
    let story = Story::new().discover_as(0.0, 1, 0, bios).offered(0.0).other_offer(0.0, |_| ()).request_as(1.0, bios);
    let story = story.transfer_of(2.0, "pxelinux.0", TransferOutcome::Complete, 42_000);
    let story = story.refused(3.0, Reason::FileNotFound).refused(3.5, Reason::FileNotFound).stays_well(4.0);
    let story = story.stalls(5.5, StallReason::ProgramMissing, Certain, "pxelinux.0 runs|does not exist");
    story.transfer_of(7.0, "pxelinux.cfg", TransferOutcome::Complete, 200).stays_well(8.0);
}

#[test]
fn f1_the_bmc_accepts_the_boot_device_and_the_machine_boots_something_else() {
    let set = || Story::new().see(0.0, Step::NetworkBootSet).see(2.0, Step::PoweredOn).waits(10.0, 302.0);
    let mut story = set();
    story.host.as_mut().unwrap().status.power = Some(crate::fleet::Power::On);
    let story = story.stalls(302.0, StallReason::BootOverrideIgnored, Likely, "5 min ago|booted something else");
    story.discover(310.0, 1).stays_well(311.0);
    // A boot before it does not hide it, and an old setting is not meant.
    let story = Story::new().script(0.0, 1, ScriptStep::Attach).see(90.0, Step::NetworkBootSet);
    let story = story.see(92.0, Step::PoweredOn);
    story.stalls(392.0, StallReason::BootOverrideIgnored, Likely, "booted something else");
    let story = Story::new().see(0.0, Step::NetworkBootSet).see(1000.0, Step::PoweredOn);
    story.stalls(1300.0, StallReason::NoNetworkBoot, Possible, "sent nothing");
}

#[test]
fn a_lease_that_is_not_written_is_no_address() {
    let story = Story::new().discover(0.0, 1).request(1.0);
    let refused = Step::NoAddress { reason: crate::boot::DropReason::LeaseNotWritten };
    let story =
        story.see(1.1, refused).stalls(2.0, StallReason::NoAddressOffered, Certain, "no address from this server");
    assert!(story.look(2.0).diagnosis.unwrap().remedy.contains("disk of the state"));
    story.request(5.0).rrq(5.5, 1).stays_well(6.0);
}

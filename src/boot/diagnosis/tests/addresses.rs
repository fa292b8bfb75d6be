//! Rows about DHCP: addresses, offers and port 4011.

use super::*;

#[test]
fn a2_the_first_message_was_sent_long_after_the_first_try() {
    let late = Story::new().discover_as(0.0, 1, 12, UEFI).offered(0.0).other_offer(0.1, |_| ());
    let late = late.stays_well(7.0).stalls(8.0, StallReason::FirstRequestLate, Likely, "12 s|spanning tree");
    late.request(11.0).rrq(11.5, 1).stays_well(13.0);
}

#[test]
fn a3_nobody_offers_an_address() {
    let story = Story::new().discover(0.0, 1).offered(0.0).discover(4.0, 1).offered(4.0);
    let story = story.waits(5.0, 9.0).stalls(9.0, StallReason::NoAddressOffered, Certain, "eth0|2 times in 4 s");
    story.other_offer(10.0, |_| ()).request(10.5).stays_well(11.0);
    let unicast = |xid| Step::Discover { xid, secs: 0, client: UEFI, relay: None, is_broadcast: false };
    let story = Story::new().see(0.0, unicast(1)).offered(0.0).see(4.0, unicast(1));
    story.stalls(9.0, StallReason::NoAddressOffered, Likely, "may also have refused");
    let deaf = Story::new().discover(0.0, 1).offered(0.0).discover(4.0, 1).with(|one| one.hears_offers = false);
    deaf.stalls(9.0, StallReason::NoAddressOffered, Likely, "may also have refused");
    Story::new()
        .discover(0.0, 1)
        .offered(0.0)
        .discover(4.0, 1)
        .with(|one| one.is_address_server = true)
        .stays_well(4.5);
}

#[test]
fn a4_two_offers_are_refused() {
    let both = Story::new().discover(0.0, 1).offered(0.0).other_offer(0.1, |_| ());
    let both = both.stays_well(3.0).discover(4.0, 1).offered(4.0).waits(4.0, 10.0).discover(12.0, 1);
    let words = "an address by 10.66.0.1|a boot file by 10.66.0.2|took neither|3 times in 12 s";
    both.stalls(12.0, StallReason::OffersRefused, Likely, words).request(13.0).stays_well(13.5);
    // A DHCP server that answers after 5 s.
    let slow = Story::new().discover(0.0, 1).offered(0.0).discover(4.0, 1).offered(4.0).other_offer(5.0, |_| ());
    slow.stays_well(6.0).request(6.5).stays_well(7.0);
    let late = Step::Offered { file: "a".into(), has_address: false, delay: Some(Uptime::from_secs(5)) };
    let late = Story::new().discover(0.0, 1).other_offer(0.1, |_| ()).see(5.0, late).waits(5.5, 6.0);
    late.stalls(6.0, StallReason::OfferLate, Certain, "5 s after").discover(12.0, 1).request(16.0).stays_well(17.0);
}

#[test]
fn a5_no_machine_of_the_segment_takes_our_offers() {
    let one = Story::new().address(0.0, 1);
    one.waits(2.0, 9.0)
        .stalls(9.0, StallReason::BootFileNotRequested, Likely, "UDP 67, 69, 4011")
        .with(|segment| segment.stuck_machines = 2)
        .stalls(9.0, StallReason::OffersNotReceived, Likely, "2 other machines|eth0|DHCP snooping")
        .with(|segment| segment.booting_machines = 1)
        .stalls(9.0, StallReason::BootFileNotRequested, Likely, "8 s since")
        .rrq(10.0, 1)
        .stays_well(11.0);
}

#[test]
fn a6_an_address_of_another_network() {
    let (server, address) = (Some([192, 168, 99, 1].into()), [192, 168, 99, 50].into());
    let story = Story::new().discover(0.0, 1).offered(0.0).see(1.0, Step::Request { server, address, client: UEFI });
    story.stalls(5.0, StallReason::UnexpectedDhcpServer, Certain, "192.168.99.50|from 192.168.99.1|eth0");
}

#[test]
fn a7_another_boot_server() {
    let rival = |story: Story, at| {
        story.other_offer(at, |offer| {
            (offer.server, offer.address, offer.claims_boot) = ([10, 66, 0, 3].into(), None, true);
        })
    };
    let story = rival(Story::new().discover(0.0, 1).offered(0.0).other_offer(0.1, |_| ()), 0.2).request(1.0);
    let story = story.stalls(5.0, StallReason::OtherBootServer, Likely, "10.66.0.3 also tells|may have gone");
    story.rrq(6.0, 1).transfer(7.0, TransferOutcome::Complete, 250_000).stays_well(8.0);
}

#[test]
fn a8_and_a18_the_dhcp_server_misleads_the_firmware() {
    let story =
        |change: fn(&mut OtherOffer)| Story::new().discover(0.0, 1).offered(0.0).other_offer(0.1, change).request(1.0);
    story(|offer| offer.claims_boot = true).stalls(
        6.0,
        StallReason::DhcpServerClaimsBoot,
        Likely,
        "10.66.0.1|option 60",
    );
    let other = |offer: &mut OtherOffer| {
        (offer.file, offer.next_server) = (Some("pxelinux.0".into()), Some([10, 0, 0, 9].into()));
    };
    story(other).stalls(6.0, StallReason::OtherBootFile, Certain, "pxelinux.0 at 10.0.0.9");
}

#[test]
fn a10_the_relay_cannot_be_reached() {
    let relay = Ipv4Addr::new(10, 99, 0, 1);
    let discover = || Step::Discover { xid: 1, secs: 0, client: UEFI, relay: Some(relay), is_broadcast: false };
    let story = || Story::new().see(0.0, discover()).offered(0.0);
    for step in [
        Step::ArpUnanswered { address: relay },
        Step::ReplyNotSent { to: relay, error: "Network is unreachable".into() },
        Step::Unreachable { by: US, code: 1, from_port: 67 },
    ] {
        let story = story().see(3.0, step).stalls(4.0, StallReason::RelayUnreachable, Certain, "the relay 10.99.0.1");
        story.request(5.0).rrq(5.5, 1).stays_well(6.0);
    }
}

#[test]
fn a14_and_a15_refusals_of_our_own() {
    let story = |reason| Story::new().discover(0.0, 1).refused(0.0, reason).discover(4.0, 1).refused(4.0, reason);
    story(Reason::Held).stays_well(4.5).phase(Phase::Held).stalls(
        4.5,
        StallReason::Held,
        Certain,
        "2 times in 4 s|held",
    );
    let mut ignored = story(Reason::UnknownHostIgnored).stays_well(4.5);
    ignored.host = None;
    ignored.stalls(4.5, StallReason::HostIgnored, Certain, "gets no answer");
    let arm = DhcpClient::Firmware(BootProtocol::Pxe, Architecture(10));
    let story = Story::new().discover_as(0.0, 1, 0, arm).refused(0.0, Reason::NoBootProgram);
    story.stalls(1.0, StallReason::NoBootProgram, Certain, "architecture 10");
}

#[test]
fn a16_and_c4_another_interface_of_the_machine() {
    let other = |client| Step::OtherInterface { mac: OTHER_MAC, client };
    Story::new().see(0.0, other(UEFI)).stays_well(1.0).stalls(
        8.0,
        StallReason::SecondInterface,
        Likely,
        "52:54:00:66:00:09|same UUID",
    );
    let story = Story::new().program(0.0, 1).see(4.0, other(DhcpClient::Ipxe));
    let story = story.stalls(8.0, StallReason::IpxeOtherInterface, Likely, "52:54:00:66:00:09");
    story.discover_as(9.0, 2, 1, DhcpClient::Ipxe).request_as(10.0, DhcpClient::Ipxe).stays_well(11.0);
}

#[test]
fn a19_ipv6_comes_first() {
    Story::new()
        .see(0.0, Step::SolicitV6)
        .stays_well(5.0)
        .stalls(8.0, StallReason::Ipv6First, Certain, "IPv6")
        .address(60.0, 1)
        .stays_well(61.0);
    // A server answers: it may boot from there.
    Story::new().see(0.0, Step::SolicitV6).see(1.0, Step::RequestV6).stays_well(60.0);
    // It comes after IPv4 here, which has failed: that is said.
    let story = Story::new().discover(0.0, 1).offered(0.0).discover(4.0, 1).discover(12.0, 1).discover(28.0, 1);
    story.see(60.0, Step::SolicitV6).stalls(70.0, StallReason::NoAddressOffered, Certain, "4 times in 28 s");
}

#[test]
fn b2_and_b3_port_4011() {
    let ask = |xid| Step::ProxyRequest { xid };
    let story = Story::new().address(0.0, 1).see(2.0, ask(9)).waits(3.0, 7.0);
    let story = story.stalls(7.0, StallReason::ProxyReplyUnused, Possible, "port 4011");
    let story = story.see(7.5, ask(9)).see(8.0, ask(9));
    let story = story.stalls(8.0, StallReason::ProxyRepliesLost, Certain, "3 times in 6 s").rrq(9.0, 1).stays_well(9.5);
    drop(story);
    let icmp = Step::Unreachable { by: VM, code: 3, from_port: 4011 };
    let story = Story::new().address(0.0, 1).see(2.0, ask(9)).see(2.1, icmp);
    story.stalls(3.0, StallReason::ProxyRepliesLost, Certain, "10.66.0.101 answers");
}

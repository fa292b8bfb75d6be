//! Rows about boot scripts: the way to them, and what they lack.

use super::*;

/// A boot whose iPXE has its address at 4 s.
fn ipxe() -> Story {
    Story::new().program(0.0, 1).discover_as(3.0, 9, 1, DhcpClient::Ipxe).request_as(4.0, DhcpClient::Ipxe)
}

#[test]
fn c3_ipxe_does_not_come_for_its_script() {
    let story = ipxe().stalls(14.0, StallReason::ScriptNotRequested, Likely, "TCP 80 to 10.66.0.2 is closed");
    let story = story.with(|one| one.is_half_open = true).stalls(
        14.0,
        StallReason::ScriptNotRequested,
        Certain,
        "lost on the way back",
    );
    story.see(15.0, Step::Script { action: ScriptStep::Attach }).stays_well(16.0);
}

#[test]
fn a_script_that_is_refused_was_asked_for() {
    let story = |reason| ipxe().refused(5.0, reason).refused(15.0, reason);
    let refused = story(Reason::SeenAtOtherAddress);
    let refused =
        refused.stalls(16.0, StallReason::ScriptRefused, Certain, "over HTTP (2 times in 10 s)|at another address");
    refused.see(25.0, Step::Script { action: ScriptStep::Attach }).stays_well(26.0);
    story(Reason::StoreUnavailable).stalls(16.0, StallReason::ScriptRefused, Certain, "could not be written");
    // What is not known to be a cause is not called a blocked port.
    story(Reason::UnknownHost).stays_well(30.0);
    // Somebody else asked in the name of a machine that does not boot.
    Story::new().refused(5.0, Reason::AddressOfOtherMachine).stays_well(30.0);
    let unverified = Story::new().refused(5.0, Reason::AddressUnverified);
    unverified.stalls(
        6.0,
        StallReason::ScriptRefused,
        Possible,
        "somebody in its name|over HTTP (once)|no evidence ties",
    );
}

#[test]
fn a_script_without_the_config_of_its_host() {
    let withheld = || Step::ConfigWithheld { from: Some([10, 0, 2, 7].into()) };
    let script = |story: Story, at| story.see(at, Step::Script { action: ScriptStep::Attach });
    let untied = |story: Story, at| script(story, at).see(at, withheld());
    let story =
        untied(ipxe(), 5.0).stalls(5.5, StallReason::ConfigWithheld, Certain, "10.0.2.7|no config|router or a NAT");
    assert_eq!(withheld_config(&story.trace.steps()), Some(Some([10, 0, 2, 7].into())));
    let login = Step::Login { image: "live".parse().unwrap() };
    let story = story.see(6.0, login).read(7.0, 9_000_000, false);
    let story = story.stalls(90.0, StallReason::ConfigWithheld, Certain, "10.0.2.7");
    // The next script has it.
    let tied = script(story, 95.0).stays_well(96.0);
    assert_eq!(withheld_config(&tied.trace.steps()), None);
    untied(ipxe(), 5.0).see(40.0, Step::ConfigServed { octets: 9 }).stays_well(41.0);
}

#[test]
fn a_held_machine_that_has_an_address_of_ours_was_offered_no_script() {
    let held = || Step::Refused {
        protocol: Protocol::Dhcp,
        reason: Reason::Held,
        message: Reason::Held.sentence().into(),
        is_tied: true,
    };
    let story = Story::new().discover_as(0.0, 1, 0, DhcpClient::Ipxe).see(0.0, held());
    let story = story.request_as(4.0, DhcpClient::Ipxe).see(4.0, held()).phase(Phase::Held);
    for at in [8.0, 30.0, 60.0] {
        let found = story.look(at).diagnosis.map(|found| (found.reason, found.certainty));
        assert_eq!(found, Some((StallReason::Held, Certain)), "at {at}");
    }
}

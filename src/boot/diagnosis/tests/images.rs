//! Rows about the image: the login, its reads, and HTTP Boot.

use super::*;

#[test]
fn d1_no_login_follows_the_script() {
    let script = || Step::Script { action: ScriptStep::Attach };
    let story = || Story::new().script(0.0, 1, ScriptStep::Attach);
    story().stays_well(10.0).see(15.2, script()).stalls(
        16.0,
        StallReason::LoginNotAttempted,
        Likely,
        "every 10 s|is probably refused",
    );
    story().see(40.0, script()).stalls(
        41.0,
        StallReason::LoginNotAttempted,
        Likely,
        "every 35 s|is probably dropped|or it was restarted",
    );
    story()
        .stalls(50.0, StallReason::LoginNotAttempted, Possible, "45 s ago")
        .see(51.0, Step::Login { image: "live".parse().unwrap() })
        .stays_well(52.0);
}

#[test]
fn d2_and_d3_refused_logins() {
    let refused = |reason| Step::LoginRefused { target: "iqn:old".into(), reason, from: VM.into(), is_tied: false };
    let story = || Story::new().script(0.0, 1, ScriptStep::Attach);
    story().see(6.0, refused(None)).stalls(7.0, StallReason::LoginRefused, Certain, "iqn:old|is to boot live");
    for (reason, words) in [
        (Reason::ChapFailed, "CHAP"),
        (Reason::OtherImageAssigned, "iqn:old|is to boot live"),
        (Reason::ImageUnavailable, "the image cannot be served now"),
        (Reason::NotAssigned, "from 10.66.0.101|no image is assigned"),
    ] {
        story().see(6.0, refused(Some(reason))).stalls(7.0, StallReason::LoginRefused, Certain, words);
    }
    let from: IpAddr = [10, 66, 0, 102].into();
    let login =
        Step::AskedFromElsewhere { what: ElsewhereRequest::Login, from, neighbour: Some(OTHER_MAC), has_token: false };
    let story = story().see(6.0, login);
    let story =
        story.stalls(7.0, StallReason::LoginFromOtherAddress, Certain, "10.66.0.102 (52:54:00:66:00:09)|vm's name");
    story.see(8.0, Step::Login { image: "live".parse().unwrap() }).stays_well(9.0);
}

#[test]
fn d4_to_d8_what_is_on_the_image() {
    let login = || Step::Login { image: "live".parse().unwrap() };
    let script = || Step::Script { action: ScriptStep::Attach };
    let attached = || Story::new().script(0.0, 1, ScriptStep::Attach).see(6.0, login()).phase(Phase::Offered);
    let story = attached().read(7.0, 40_000, true).stays_well(8.0).see(17.0, script());
    let mut story = story.stalls(18.0, StallReason::NothingToBoot, Likely, "attached live|40 kB|nothing to boot");
    let status = &mut story.host.as_mut().unwrap().status;
    status.boot_risks = Some(vec![BootRisk::SecondInterface, BootRisk::NoLoader]);
    status.warnings = vec!["another host".to_owned(), "spec.image: live boots with BIOS only".to_owned()];
    let story = story.stalls(18.0, StallReason::NothingToBoot, Certain, "nothing to boot");
    assert_eq!(story.look(18.0).diagnosis.unwrap().remedy, "live boots with BIOS only");
    let loaded = || attached().read(9.0, 2_000_000, true);
    loaded().waits(10.0, 69.0).stalls(69.0, StallReason::KernelSilent, Possible, "2.0 MB|60 s|menu");
    let system = loaded().request_as(15.0, DhcpClient::System).stays_well(20.0);
    system.stalls(75.0, StallReason::MediumNotFound, Possible, "kernel runs").see(76.0, login()).stays_well(77.0);
    let failed = Step::ReadFailed { message: "the file ends".into() };
    attached().see(8.0, failed).stalls(9.0, StallReason::MediumUnreadable, Certain, "the file ends");
    let range = Step::BadRange { range: "bytes=u-u".into() };
    attached().see(8.0, range).stalls(9.0, StallReason::BadRange, Certain, "bytes=u-u");
}

#[test]
fn d10_to_d12_http_boot_and_images_that_are_gone() {
    let offer = Step::Offered { file: "http://10.66.0.2/boot/a/snponly.efi".into(), has_address: false, delay: None };
    let story = || Story::new().discover_as(0.0, 1, 0, HTTP_BOOT).see(0.0, offer.clone()).request_as(1.0, HTTP_BOOT);
    story().stays_well(8.0).stalls(
        9.0,
        StallReason::HttpBootNotRequested,
        Likely,
        "http://10.66.0.2/boot/a/snponly.efi|https only",
    );
    let head = Step::HeadRequested { file: "live.iso".into(), size: 2_600_000_000 };
    story().see(2.0, head).stays_well(3.0).stalls(8.0, StallReason::HttpBootTooLarge, Likely, "2.6 GB");
    let story = Story::new().script(0.0, 1, ScriptStep::Wait).refused(5.0, Reason::ImageUnavailable);
    story
        .stalls(6.0, StallReason::ImageUnavailable, Certain, "waits for live")
        .see(36.0, Step::Login { image: "live".parse().unwrap() })
        .stays_well(37.0);
    let story = Story::new().script(0.0, 1, ScriptStep::Wait).refused(5.0, Reason::ConfigNotRendered);
    story.stalls(6.0, StallReason::ImageUnavailable, Certain, "waits for its config on live");
}

//! Rows about machines whose DISCOVERs are not heard: another server's boot file sends them here.

use super::*;

const SCRIPT: Step = Step::Script { action: ScriptStep::Attach };

/// A boot that begins with the program over TFTP, and has its script at `at + 2`.
fn unheard(story: Story, at: f64, port: u16) -> Story {
    story.rrq(at, port).transfer(at + 1.0, TransferOutcome::Complete, 250_000).see(at + 2.0, SCRIPT)
}

#[test]
fn the_program_of_the_next_boot_takes_the_diagnosis_back() {
    let stuck = || unheard(Story::new(), 0.0, 2070).see(12.0, SCRIPT);
    let stuck = || stuck().stalls(13.0, StallReason::LoginNotAttempted, Likely, "every 10 s");
    for port in [2070, 2071] {
        // Firmware may use the same port at each boot.
        let story = stuck().rrq(60.0, port).stays_well(62.0).transfer(63.0, TransferOutcome::Complete, 250_000);
        let story = story.waits(65.0, 83.0).see(66.0, SCRIPT).stays_well(70.0);
        assert_eq!(scene::divide(&story.trace.steps()).len(), 2);
        story.stalls(66.0 + 45.0, StallReason::LoginNotAttempted, Possible, "45 s ago");
    }
    // The same over HTTP, where the firmware asks for the size first.
    let head = |story: Story, at| story.see(at, Step::HeadRequested { file: "snponly.efi".into(), size: 250_000 });
    let story = head(Story::new(), 0.0).see(2.0, SCRIPT).see(12.0, SCRIPT);
    let story = story.stalls(13.0, StallReason::LoginNotAttempted, Likely, "every 10 s");
    head(story, 60.0).stays_well(62.0);
}

#[test]
fn a_script_alone_is_a_new_boot_only_after_an_installer() {
    let story = Story::new().see(0.0, SCRIPT).see(1.0, Step::Login { image: "live".parse().unwrap() });
    let story = story.see(2.0, Step::ReadFailed { message: "the file ends".into() });
    let story = story.stalls(3.0, StallReason::MediumUnreadable, Certain, "the file ends");
    let installed = story.see(5.0, Step::ConfigServed { octets: 33 }).see(300.0, SCRIPT);
    assert_eq!(scene::divide(&installed.trace.steps()).len(), 2);
    installed.stays_well(303.0);
    // A loader that reads a config in the image, and fails: the script is repeated after 10 s.
    let story = Story::new().see(0.0, SCRIPT).see(1.0, Step::ConfigServed { octets: 33 }).see(12.0, SCRIPT);
    assert_eq!(scene::divide(&story.trace.steps()).len(), 1);
}

#[test]
fn files_of_a_loader_after_its_script_begin_no_boot() {
    let file = |name: &str| Step::FileRequested { file: name.into(), port: 9 };
    let story = Story::new().rrq(0.0, 1).see(1.0, file("grubx64.efi")).see(2.0, SCRIPT).see(3.0, file("grubx64.efi"));
    assert_eq!(scene::divide(&story.trace.steps()).len(), 1);
    let rom = Story::new().see(0.0, SCRIPT).see(3.0, Step::HeadRequested { file: "wimboot".into(), size: 9 });
    assert_eq!(scene::divide(&rom.trace.steps()).len(), 1);
}

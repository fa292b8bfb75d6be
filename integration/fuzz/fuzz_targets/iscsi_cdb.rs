#![no_main]
//! Any commands to any units: the reply stays inside the unit and the allocation length.

#[allow(dead_code, reason = "it obeys connections, which the other targets have")]
mod io_loop;

use bootlatch::iscsi::scsi::CommandOutcome;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut units = io_loop::units();
    for chunk in data.chunks_exact(18) {
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&chunk[2..]);
        let lun = [chunk[0] & 0x40, chunk[1] % 4, 0, 0, 0, 0, 0, 0];
        match units.execute(lun, &cdb) {
            CommandOutcome::Read(number, span) | CommandOutcome::Compare(number, span) => {
                let unit = units.lun(number).expect("the unit is there");
                let stored = unit.stored(span);
                assert!(stored.offset() + stored.length() <= io_loop::SIZE || stored.length() == 0);
            }
            CommandOutcome::Data(data) => assert!(data.len() < 4096),
            CommandOutcome::Good | CommandOutcome::Check(_) => {}
        }
    }
});

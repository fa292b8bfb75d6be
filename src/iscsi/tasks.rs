//! The tasks of a session: commands without a response yet, in order.

use std::collections::VecDeque;

use super::command::Cdb;
use super::limits;
use super::medium::ByteRange;
use super::pdu::{Header, TargetOpcode};

/// A SCSI command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScsiTask {
    /// Initiator task tag.
    pub tag: u32,
    /// LUN field.
    pub lun: [u8; 8],
    /// Command descriptor block.
    pub cdb: Cdb,
    /// Number of bytes that the initiator expects to transfer, in its direction.
    pub expected: u32,
    /// Whether the initiator expects data from the target.
    pub reads: bool,
    /// Whether the initiator has data for the target.
    pub writes: bool,
    /// Whether the command is immediate, outside the command window.
    pub immediate: bool,
}

impl ScsiTask {
    /// Returns the task of a SCSI Command PDU (RFC 7143 11.3).
    #[must_use]
    pub fn new(header: &Header) -> Self {
        let mut cdb = [0; 16];
        cdb.copy_from_slice(&header.0[32..48]);
        Self {
            tag: header.task_tag(),
            lun: header.lun(),
            cdb,
            expected: header.word(20),
            reads: header.flags() & 0x40 != 0,
            writes: header.flags() & 0x20 != 0,
            immediate: header.immediate(),
        }
    }

    /// Returns the number of bytes that the initiator accepts.
    #[must_use]
    pub fn takes(&self) -> u64 {
        if self.reads { self.expected.into() } else { 0 }
    }

    /// Writes the residual of a task that had `available` bytes for the initiator (RFC 7143 11.4.5).
    pub fn set_residual(&self, header: &mut Header, available: u64) {
        let wanted = if self.reads || self.writes { u64::from(self.expected) } else { 0 };
        let (flag, count) = match available.cmp(&wanted) {
            std::cmp::Ordering::Less => (0x02, wanted - available),
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => (0x04, available - wanted),
        };
        header.0[1] |= flag;
        header.set_word(44, u32::try_from(count).unwrap_or(u32::MAX));
    }
}

/// A task whose Data-In is being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataInTransfer {
    /// The task.
    pub task: ScsiTask,
    /// Number of the unit.
    pub lun: u8,
    /// The bytes that remain to be sent.
    pub left: ByteRange,
    /// Number of all bytes that the command requests.
    pub available: u64,
    /// Number of bytes sent.
    pub sent: u64,
    /// Number of Data-In PDUs sent.
    pub data_sn: u32,
}

impl DataInTransfer {
    /// Creates a transfer of the bytes of a range that the initiator accepts.
    #[must_use]
    pub fn new(task: ScsiTask, lun: u8, span: ByteRange) -> Self {
        Self { task, lun, left: span.first(task.takes()), available: span.length(), sent: 0, data_sn: 0 }
    }

    /// Returns the length of the next Data-In, limited by segment, burst and range, and whether it ends its burst (RFC
    /// 7143 11.7, 13.13).
    #[must_use]
    pub fn next(&self, segment: usize, burst: u32) -> (usize, bool) {
        let burst = u64::from(burst.max(1));
        let in_burst = burst - self.sent % burst;
        let segment = u64::try_from(segment.min(limits::MAX_SEND_SEGMENT)).unwrap_or(8192);
        let length = self.left.length().min(segment).min(in_burst);
        (
            usize::try_from(length).unwrap_or(limits::MAX_SEND_SEGMENT),
            length == in_burst || length == self.left.length(),
        )
    }

    /// Returns the header of the next Data-In, without numbers and status.
    #[must_use]
    pub fn header(&self, ends_burst: bool) -> Header {
        let mut header = Header::answer(TargetOpcode::DataIn, self.task.tag);
        header.0[1] = if ends_burst { 0x80 } else { 0 };
        header.set_word(20, super::pdu::NO_TAG);
        header.set_word(36, self.data_sn);
        header.set_word(40, u32::try_from(self.sent).unwrap_or(u32::MAX));
        header
    }

    /// Records that a Data-In of `length` bytes was sent.
    pub fn advance(&mut self, length: u64) {
        self.left = self.left.after(length);
        self.sent += length;
        self.data_sn = self.data_sn.wrapping_add(1);
    }
}

/// A VERIFY with data: it requests the data burst by burst, and holds each piece until it is compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comparison {
    /// The task.
    pub task: ScsiTask,
    /// Number of the unit.
    pub lun: u8,
    /// The bytes that remain to be compared.
    pub left: ByteRange,
    /// Number of all bytes that the command compares.
    pub available: u64,
    /// Number of bytes compared.
    pub compared: u64,
    /// Number of bytes requested.
    pub asked: u64,
    /// Number of R2Ts sent.
    pub r2t_sn: u32,
    /// Number of the next Data-Out of the burst.
    pub data_sn: u32,
    /// Received data that is not compared yet.
    pub piece: Option<Vec<u8>>,
    /// Whether a byte differed.
    pub differs: bool,
}

impl Comparison {
    /// Creates a comparison of the bytes of a range that the initiator has data for.
    #[must_use]
    pub fn new(task: ScsiTask, lun: u8, span: ByteRange) -> Self {
        let brings = if task.writes { task.expected } else { 0 };
        Self {
            task,
            lun,
            left: span.first(brings.into()),
            available: span.length(),
            compared: 0,
            asked: 0,
            r2t_sn: 0,
            data_sn: 0,
            piece: None,
            differs: false,
        }
    }

    /// Returns the R2T for the next burst, if the previous one is complete and bytes remain (RFC 7143 11.8).
    pub fn next_r2t(&mut self, burst: u32) -> Option<Header> {
        if self.compared < self.asked || self.left.length() == 0 {
            return None;
        }
        let length = self.left.first(burst.max(1).into()).length();
        let mut header = Header::answer(TargetOpcode::ReadyToTransfer, self.task.tag);
        header.0[8..16].copy_from_slice(&self.task.lun);
        header.set_word(36, self.r2t_sn);
        self.r2t_sn = self.r2t_sn.wrapping_add(1);
        header.set_word(20, self.transfer_tag());
        header.set_word(40, u32::try_from(self.asked).unwrap_or(u32::MAX));
        header.set_word(44, u32::try_from(length).unwrap_or(u32::MAX));
        self.asked += length;
        self.data_sn = 0;
        Some(header)
    }

    /// Accepts a Data-Out that continues the burst, and returns whether it does (RFC 7143 11.7).
    pub fn accept_data(&mut self, header: &Header, data: &[u8]) -> bool {
        let length = u64::try_from(data.len()).unwrap_or(u64::MAX);
        let continues = header.task_tag() == self.task.tag
            && header.word(20) == self.transfer_tag()
            && header.word(36) == self.data_sn
            && u64::from(header.word(40)) == self.compared
            && self.piece.is_none()
            && !data.is_empty()
            && length <= self.asked - self.compared;
        if continues {
            self.data_sn = self.data_sn.wrapping_add(1);
            self.piece = Some(data.to_vec());
        }
        continues
    }

    /// Compares the received piece with the bytes of the medium.
    pub fn compare(&mut self, stored: &[u8]) {
        let Some(piece) = self.piece.take() else { return };
        self.differs |= piece != stored;
        let length = u64::try_from(piece.len()).unwrap_or(0);
        self.left = self.left.after(length);
        self.compared += length;
    }

    /// Returns the transfer tag of the latest R2T, which is never the reserved value.
    fn transfer_tag(&self) -> u32 {
        self.r2t_sn & 0x7fff_ffff
    }
}

/// The task in progress.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActiveTask {
    /// Its Data-In is being sent.
    Transfer(DataInTransfer),
    /// Its Data-Out is being compared.
    Comparison(Box<Comparison>),
}

impl ActiveTask {
    fn task(&self) -> &ScsiTask {
        match self {
            Self::Transfer(transfer) => &transfer.task,
            Self::Comparison(comparison) => &comparison.task,
        }
    }
}

/// The queued tasks in order of arrival, and the task in progress.
#[derive(Debug, Default)]
pub struct Tasks {
    waiting: VecDeque<ScsiTask>,
    /// The task in progress.
    pub current: Option<ActiveTask>,
}

impl Tasks {
    /// Appends a task.
    pub fn push(&mut self, task: ScsiTask) {
        self.waiting.push_back(task);
    }

    /// Removes the next task.
    pub fn pop(&mut self) -> Option<ScsiTask> {
        self.waiting.pop_front()
    }

    /// Returns whether no task is outstanding.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.current.is_none() && self.waiting.is_empty()
    }

    /// Returns whether a task with this tag is outstanding.
    #[must_use]
    pub fn holds(&self, tag: u32) -> bool {
        self.all().any(|task| task.tag == tag)
    }

    /// Returns the number of outstanding tasks in the command window.
    #[must_use]
    pub fn numbered(&self) -> u32 {
        u32::try_from(self.all().filter(|task| !task.immediate).count()).unwrap_or(u32::MAX)
    }

    /// Returns the number of outstanding immediate tasks.
    #[must_use]
    pub fn immediate(&self) -> usize {
        self.all().filter(|task| task.immediate).count()
    }

    /// Aborts the tasks for which `picked` returns true, and returns whether there was any.
    pub fn abort(&mut self, picked: impl Fn(&ScsiTask) -> bool) -> bool {
        let before = self.all().count();
        self.waiting.retain(|task| !picked(task));
        if self.current.as_ref().is_some_and(|work| picked(work.task())) {
            self.current = None;
        }
        self.all().count() < before
    }

    fn all(&self) -> impl Iterator<Item = &ScsiTask> {
        self.current.iter().map(ActiveTask::task).chain(&self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::super::medium::{DeviceKind, Lun, UnitIdentity};
    use super::*;

    fn task(tag: u32, expected: u32) -> ScsiTask {
        ScsiTask { tag, lun: [0; 8], cdb: [0; 16], expected, reads: true, writes: false, immediate: false }
    }

    #[test]
    fn data_goes_in_segments_and_bursts() {
        let lun = Lun::new(DeviceKind::Disk, 1 << 20, UnitIdentity::from_seed(b""));
        let span = lun.span(0, 200).unwrap();
        let mut transfer = DataInTransfer::new(task(1, 102_400), 0, span);
        let mut seen = Vec::new();
        while transfer.left.length() > 0 {
            let (length, ends) = transfer.next(24_000, 65_536);
            let header = transfer.header(ends);
            assert_eq!((header.word(36), u64::from(header.word(40))), (transfer.data_sn, transfer.sent));
            seen.push((length, ends));
            transfer.advance(length as u64);
        }
        assert_eq!(seen, [(24_000, false), (24_000, false), (17_536, true), (24_000, false), (12_864, true)]);
    }

    #[test]
    fn residuals_count_overflow_and_underflow() {
        for (expected, available, flags, count) in
            [(512, 512, 0x80, 0), (1024, 512, 0x82, 512), (100, 512, 0x84, 412), (0, 512, 0x84, 512)]
        {
            let mut header = Header::answer(TargetOpcode::Response, 1);
            task(1, expected).set_residual(&mut header, available);
            assert_eq!((header.0[1], header.word(44)), (flags, count));
        }
    }

    #[test]
    fn an_aborted_task_is_removed_in_any_state() {
        let lun = Lun::new(DeviceKind::Disk, 512, UnitIdentity::from_seed(b""));
        let mut tasks = Tasks {
            current: Some(ActiveTask::Transfer(DataInTransfer::new(task(1, 512), 0, lun.span(0, 1).unwrap()))),
            ..Tasks::default()
        };
        tasks.push(task(2, 0));
        tasks.push(task(3, 0));
        assert!(tasks.holds(1) && tasks.holds(3));
        assert_eq!(tasks.numbered(), 3);
        assert!(tasks.abort(|task| task.tag == 1));
        assert!(tasks.abort(|task| task.tag == 3));
        assert!(!tasks.abort(|task| task.tag == 3));
        assert_eq!(tasks.pop().map(|task| task.tag), Some(2));
    }
}

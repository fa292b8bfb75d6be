//! The FAT file system of an EFI system partition: what an El Torito entry for UEFI points to.
//! It is read, and single files of it are replaced, as Microsoft's FAT specification 1.03 has it.

use super::descriptor::Extent;
use super::{CannotCompose, Draft, ReadAt};
use crate::iso::endian::{le16, le32};

const DIRECTORY_MAX: usize = 2 * 1024 * 1024;
const TABLE_MAX: u64 = 8 * 1024 * 1024;
const DEPTH_MAX: usize = 16;
const ENTRIES_MAX: usize = 65_536;
const ENTRY: usize = 32;
const LONG_NAME: u8 = 0x0f;
const VOLUME_LABEL: u8 = 0x08;
const SUBDIRECTORY: u8 = 0x10;

/// Is a FAT file system inside an image.
#[derive(Debug, Clone)]
pub struct Fat {
    /// Is where the file system lies in the image, in bytes; its length is its own claim.
    pub place: Extent,
    width: Width,
    tables: Vec<Extent>,
    /// Is FAT12's and FAT16's root directory, which has no clusters.
    fixed_root: Extent,
    root_cluster: u32,
    data_at: u64,
    cluster: u64,
    clusters: u32,
    /// Is where FAT32's FSInfo sector lies.
    info_at: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

/// Is a file of a FAT file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FatFile {
    pub path: String,
    pub length: u32,
    first: u32,
    /// Is where its directory entry lies in the image, in bytes.
    entry_at: u64,
}

type Result<T, E = CannotCompose> = std::result::Result<T, E>;

impl Fat {
    /// Opens the file system at a place of an image; nothing where there is no FAT file system.
    ///
    /// # Errors
    /// Says what of it contradicts itself.
    pub fn open(image: &dyn ReadAt, at: u64) -> Result<Option<Self>> {
        let mut boot = [0; 512];
        let head = Extent { offset: at, length: boot.len() as u64 };
        if head.within(image.len(), "").is_err() {
            return Ok(None);
        }
        image.read_at(at, &mut boot).map_err(CannotCompose::read("an EFI partition"))?;
        let looks = boot[510..] == [0x55, 0xaa] && matches!(boot[0], 0xeb | 0xe9);
        let Some(fat) = looks.then(|| Self::parse(at, &boot)).flatten() else { return Ok(None) };
        let whole = fat.place.within(image.len(), "").is_ok();
        let inside = fat.tables.iter().all(|table| table.length <= TABLE_MAX);
        if whole && inside { Ok(Some(fat)) } else { Err(CannotCompose::Fat("it lies past the end of the image")) }
    }

    fn parse(at: u64, boot: &[u8]) -> Option<Self> {
        let sector = u64::from(le16(boot, 11)?);
        let per_cluster = u64::from(boot[13]);
        if !matches!(sector, 512 | 1024 | 2048 | 4096) || !per_cluster.is_power_of_two() {
            return None;
        }
        let or = |small: u16, large: u32| if small == 0 { large } else { u32::from(small) };
        let sectors = u64::from(or(le16(boot, 19)?, le32(boot, 32)?));
        let table = u64::from(or(le16(boot, 22)?, le32(boot, 36)?)) * sector;
        let reserved = u64::from(le16(boot, 14)?) * sector;
        let copies = u64::from(boot[16]);
        let root = (u64::from(le16(boot, 17)?) * ENTRY as u64).next_multiple_of(sector);
        let data = reserved + copies * table + root;
        let cluster = sector * per_cluster;
        let clusters = u32::try_from((sectors * sector).checked_sub(data)? / cluster).ok()?;
        if copies == 0 || table == 0 || clusters == 0 {
            return None;
        }
        let width = match clusters {
            0..4085 => Width::Twelve,
            4085..65525 => Width::Sixteen,
            _ => Width::ThirtyTwo,
        };
        let wide = width == Width::ThirtyTwo;
        let info = if wide { le16(boot, 48).filter(|sector| !matches!(sector, 0 | 0xffff)) } else { None };
        Some(Self {
            place: Extent { offset: at, length: sectors * sector },
            width,
            tables: (0..copies).map(|copy| Extent { offset: at + reserved + copy * table, length: table }).collect(),
            fixed_root: Extent { offset: at + reserved + copies * table, length: root },
            root_cluster: if wide { le32(boot, 44)? } else { 0 },
            data_at: at + data,
            cluster,
            clusters,
            info_at: info.map(|info| at + u64::from(info) * sector),
        })
    }

    /// Lists all files with their paths (`/EFI/BOOT/grub.cfg`).
    ///
    /// # Errors
    /// Says what of the file system is damaged.
    pub fn files(&self, image: &dyn ReadAt) -> Result<Vec<FatFile>> {
        let table = self.table(image)?;
        let mut files = Vec::new();
        let mut left = vec![(String::new(), self.root_cluster)];
        let mut seen = 0;
        while let Some((path, first)) = left.pop() {
            for (name, attributes, file) in self.entries(image, &table, first)? {
                seen += 1;
                let path = format!("{path}/{name}");
                if seen > ENTRIES_MAX || path.split('/').count() > DEPTH_MAX {
                    return Err(CannotCompose::Fat("it has too many files, or goes round in circles"));
                }
                if attributes & SUBDIRECTORY != 0 {
                    left.push((path, file.first));
                } else {
                    files.push(FatFile { path, ..file });
                }
            }
        }
        Ok(files)
    }

    /// Reads a file whole.
    ///
    /// # Errors
    /// Says what of the file system is damaged.
    pub fn read(&self, image: &dyn ReadAt, file: &FatFile) -> Result<Vec<u8>> {
        let length = file.length as usize;
        if length > DIRECTORY_MAX {
            return Err(CannotCompose::Fat("a boot menu is longer than 2 MiB"));
        }
        let chain = self.table(image)?.chain(self.clusters, file.first)?;
        let mut data = self.clusters_of(image, &chain)?;
        if data.len() < length {
            return Err(CannotCompose::Fat("a file is longer than its clusters"));
        }
        data.truncate(length);
        Ok(data)
    }

    /// Replaces a file's content, taking clusters or giving them back.
    ///
    /// # Errors
    /// `Fat` where it is damaged, or has no room.
    pub fn replace(&self, draft: &mut Draft<'_>, file: &FatFile, data: &[u8]) -> Result<()> {
        let length = u32::try_from(data.len()).map_err(|_| CannotCompose::Fat("a file is too long"))?;
        let mut table = self.table(draft)?;
        let mut chain = table.chain(self.clusters, file.first)?;
        let wanted = data.len().div_ceil(self.cluster as usize);
        let mut changed = Vec::new();
        for cluster in chain.split_off(wanted.min(chain.len())) {
            changed.push((cluster, 0));
        }
        let taken = table.free(self.clusters).take(wanted - chain.len()).collect::<Vec<_>>();
        chain.extend(taken);
        if chain.len() < wanted {
            return Err(CannotCompose::Fat("it has no free cluster left for a longer boot menu"));
        }
        let next = chain.iter().skip(1).copied().chain([table.end()]);
        changed.extend(chain.iter().copied().zip(next));
        for (cluster, value) in changed {
            let (at, bytes) = table.set(cluster, value);
            for copy in &self.tables {
                draft.write(copy.offset + at as u64, &bytes)?;
            }
        }
        for (cluster, part) in chain.iter().zip(data.chunks(self.cluster as usize)) {
            draft.write(self.offset(*cluster), part)?;
        }
        let first = chain.first().copied().unwrap_or(0);
        draft.write(file.entry_at + 20, &((first >> 16) as u16).to_le_bytes())?;
        draft.write(file.entry_at + 26, &(first as u16).to_le_bytes())?;
        draft.write(file.entry_at + 28, &length.to_le_bytes())?;
        if let Some(info) = self.info_at {
            let free = table.free(self.clusters).count() as u32;
            draft.write(info + 488, &free.to_le_bytes())?;
        }
        Ok(())
    }

    fn offset(&self, cluster: u32) -> u64 {
        self.data_at + u64::from(cluster - 2) * self.cluster
    }

    fn table(&self, image: &dyn ReadAt) -> Result<Table> {
        let Some(place) = self.tables.first() else { return Err(CannotCompose::Fat("it has no table")) };
        let mut bytes = vec![0; place.length as usize];
        image.read_at(place.offset, &mut bytes).map_err(CannotCompose::read("a FAT"))?;
        Ok(Table { width: self.width, bytes })
    }

    fn clusters_of(&self, image: &dyn ReadAt, chain: &[u32]) -> Result<Vec<u8>> {
        if chain.len() as u64 * self.cluster > DIRECTORY_MAX as u64 + self.cluster {
            return Err(CannotCompose::Fat("a directory or a boot menu is longer than 2 MiB"));
        }
        let mut data = vec![0; chain.len() * self.cluster as usize];
        for (part, cluster) in data.chunks_mut(self.cluster as usize).zip(chain) {
            image.read_at(self.offset(*cluster), part).map_err(CannotCompose::read("an EFI partition"))?;
        }
        Ok(data)
    }

    /// Reads a directory: names, attributes and where the entries lie. 0 is the fixed root.
    fn entries(&self, image: &dyn ReadAt, table: &Table, first: u32) -> Result<Vec<(String, u8, FatFile)>> {
        let (data, chain) = if first == 0 && self.width != Width::ThirtyTwo {
            let mut data = vec![0; self.fixed_root.length as usize];
            image.read_at(self.fixed_root.offset, &mut data).map_err(CannotCompose::read("an EFI partition"))?;
            (data, Vec::new())
        } else {
            let chain = table.chain(self.clusters, first)?;
            (self.clusters_of(image, &chain)?, chain)
        };
        let position = |at: usize| match chain.get(at / self.cluster as usize) {
            Some(cluster) => self.offset(*cluster) + at as u64 % self.cluster,
            None => self.fixed_root.offset + at as u64,
        };
        let mut found = Vec::new();
        let mut long = LongName::default();
        for (number, entry) in data.chunks_exact(ENTRY).enumerate() {
            let attributes = entry[11];
            match entry[0] {
                0 => break,
                0xe5 => long = LongName::default(),
                _ if attributes & 0x3f == LONG_NAME => long.add(entry),
                b'.' => {}
                _ if attributes & VOLUME_LABEL != 0 => long = LongName::default(),
                _ => {
                    let name = std::mem::take(&mut long).finish(entry).unwrap_or_else(|| short_name(entry));
                    let words = [le16(entry, 20), le16(entry, 26)].map(|word| u32::from(word.unwrap_or(0)));
                    let high = if self.width == Width::ThirtyTwo { words[0] << 16 } else { 0 };
                    let length = le32(entry, 28).unwrap_or(0);
                    let entry_at = position(number * ENTRY);
                    found.push((
                        name,
                        attributes,
                        FatFile { path: String::new(), length, first: high | words[1], entry_at },
                    ));
                }
            }
        }
        Ok(found)
    }
}

/// Gathers a long name, whose pieces stand before the entry, the last one first.
#[derive(Debug, Default)]
struct LongName {
    units: Vec<u16>,
    checksum: u8,
}

impl LongName {
    fn add(&mut self, entry: &[u8]) {
        let places = [1_usize, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        let piece: Vec<u16> = places.iter().filter_map(|at| le16(entry, *at)).take_while(|unit| *unit != 0).collect();
        if entry[0] & 0x40 != 0 {
            self.units.clear();
        }
        self.checksum = entry[13];
        self.units.splice(0..0, piece);
        self.units.truncate(255);
    }

    fn finish(self, entry: &[u8]) -> Option<String> {
        let sum = entry[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        (!self.units.is_empty() && sum == self.checksum).then(|| String::from_utf16_lossy(&self.units))
    }
}

fn short_name(entry: &[u8]) -> String {
    let text = |raw: &[u8], lower: bool| {
        let text: String = raw.iter().map(|byte| char::from(*byte)).collect::<String>().trim_end().to_owned();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    // Windows NT's flags for names that are all lower case.
    let (base, end) = (text(&entry[..8], entry[12] & 8 != 0), text(&entry[8..11], entry[12] & 16 != 0));
    if end.is_empty() { base } else { format!("{base}.{end}") }
}

/// Is a file allocation table.
#[derive(Debug)]
struct Table {
    width: Width,
    bytes: Vec<u8>,
}

impl Table {
    fn end(&self) -> u32 {
        match self.width {
            Width::Twelve => 0xfff,
            Width::Sixteen => 0xffff,
            Width::ThirtyTwo => 0x0fff_ffff,
        }
    }

    fn next(&self, cluster: u32) -> Option<u32> {
        let cluster = cluster as usize;
        match self.width {
            Width::Twelve => {
                let pair = le16(&self.bytes, cluster + cluster / 2)?;
                Some(u32::from(if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }))
            }
            Width::Sixteen => le16(&self.bytes, cluster * 2).map(u32::from),
            Width::ThirtyTwo => le32(&self.bytes, cluster * 4).map(|value| value & 0x0fff_ffff),
        }
    }

    /// Follows a file's clusters.
    fn chain(&self, clusters: u32, first: u32) -> Result<Vec<u32>> {
        let mut chain = Vec::new();
        let mut here = first;
        // An empty file has no cluster; the last eight values end a chain.
        while here != 0 && here < self.end() - 7 {
            if here < 2 || here - 2 >= clusters || chain.len() as u32 > clusters {
                return Err(CannotCompose::Fat("a chain of clusters leaves it, or goes round in circles"));
            }
            chain.push(here);
            here = self.next(here).ok_or(CannotCompose::Fat("its table is too short for its clusters"))?;
        }
        Ok(chain)
    }

    fn free(&self, clusters: u32) -> impl Iterator<Item = u32> + '_ {
        (2..clusters.saturating_add(2)).filter(|cluster| self.next(*cluster) == Some(0))
    }

    /// Sets an entry; gives which bytes of the table changed.
    fn set(&mut self, cluster: u32, value: u32) -> (usize, Vec<u8>) {
        let number = cluster as usize;
        let (at, bytes) = match self.width {
            Width::Twelve => {
                let at = number + number / 2;
                let pair = le16(&self.bytes, at).unwrap_or(0);
                let value = value as u16;
                let pair = if number.is_multiple_of(2) { pair & 0xf000 | value } else { pair & 0xf | value << 4 };
                (at, pair.to_le_bytes().to_vec())
            }
            Width::Sixteen => (number * 2, (value as u16).to_le_bytes().to_vec()),
            Width::ThirtyTwo => {
                let old = le32(&self.bytes, number * 4).unwrap_or(0);
                (number * 4, (old & 0xf000_0000 | value).to_le_bytes().to_vec())
            }
        };
        if let Some(place) = self.bytes.get_mut(at..at + bytes.len()) {
            place.copy_from_slice(&bytes);
        }
        (at, bytes)
    }
}

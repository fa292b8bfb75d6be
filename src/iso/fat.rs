//! The FAT file system of an EFI system partition, which an El Torito entry for UEFI points to.
//! Files are read, and single files are replaced (Microsoft FAT specification 1.03).

use super::endian::{le16, le32};
use super::error::ViewResult;
use super::extent::Extent;
use super::{OverlayBuilder, ReadAt, ViewError};

/// Maximum length of a directory, and of a file that is read, in bytes.
const MAX_DIRECTORY_BYTES: usize = 2 * 1024 * 1024;
/// Maximum length of a file allocation table in bytes.
const MAX_TABLE_BYTES: u64 = 8 * 1024 * 1024;
/// Maximum depth of a directory, in levels below the root.
const MAX_DEPTH: usize = 16;
/// Maximum number of directory entries.
const MAX_ENTRIES: usize = 65_536;
/// Length of a directory entry in bytes.
const ENTRY: usize = 32;
/// Attributes of an entry that holds a part of a long name.
const LONG_NAME: u8 = 0x0f;
/// Attribute of a volume label.
const VOLUME_LABEL: u8 = 0x08;
/// Attribute of a directory.
const SUBDIRECTORY: u8 = 0x10;

/// A FAT file system in an image.
#[derive(Debug, Clone)]
pub struct FatVolume {
    /// Byte range of the file system in the image, by its boot sector.
    pub place: Extent,
    width: FatWidth,
    /// File allocation tables.
    tables: Vec<Extent>,
    /// Root directory of FAT12 and FAT16, which has no clusters.
    fixed_root: Extent,
    /// First cluster of the root directory of FAT32; otherwise 0.
    root_cluster: u32,
    /// Offset of cluster 2 in the image, in bytes.
    data_at: u64,
    /// Length of a cluster in bytes.
    cluster: u64,
    /// Number of clusters.
    clusters: u32,
    /// Offset of the FSInfo sector of FAT32 in the image, in bytes.
    info_at: Option<u64>,
}

/// The width of an entry of the file allocation table, in bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FatWidth {
    Twelve,
    Sixteen,
    ThirtyTwo,
}

/// A file of a FAT file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FatFile {
    /// Path in the file system (`/EFI/BOOT/grub.cfg`).
    pub path: String,
    /// Length in bytes.
    pub length: u32,
    /// First cluster; 0 for an empty file.
    first: u32,
    /// Offset of the directory entry in the image, in bytes.
    entry_at: u64,
}
impl FatVolume {
    /// Opens the file system at an offset of an image. Returns `None` if there is no FAT file system.
    ///
    /// # Errors
    /// Returns `Fat` if the file system lies past the end of the image or has a table above 8 MiB.
    pub fn open(image: &dyn ReadAt, at: u64) -> ViewResult<Option<Self>> {
        let mut boot = [0; 512];
        let head = Extent { offset: at, length: boot.len() as u64 };
        if head.ensure_within(image.len(), "").is_err() {
            return Ok(None);
        }
        image.read_at(at, &mut boot).map_err(ViewError::read("an EFI partition"))?;
        let has_signature = boot[510..] == [0x55, 0xaa] && matches!(boot[0], 0xeb | 0xe9);
        let Some(fat) = has_signature.then(|| Self::parse(at, &boot)).flatten() else { return Ok(None) };
        let whole = fat.place.ensure_within(image.len(), "").is_ok();
        let inside = fat.tables.iter().all(|table| table.length <= MAX_TABLE_BYTES);
        if whole && inside {
            Ok(Some(fat))
        } else {
            Err(ViewError::Fat("the file system lies past the end of the image"))
        }
    }

    /// Parses a boot sector. Returns `None` if its values are not plausible.
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
            0..4085 => FatWidth::Twelve,
            4085..65525 => FatWidth::Sixteen,
            _ => FatWidth::ThirtyTwo,
        };
        let wide = width == FatWidth::ThirtyTwo;
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

    /// Lists all files with their paths.
    ///
    /// # Errors
    /// Returns what is damaged in the file system.
    pub fn files(&self, image: &dyn ReadAt) -> ViewResult<Vec<FatFile>> {
        let table = self.read_table(image)?;
        let mut files = Vec::new();
        let mut left = vec![(String::new(), self.root_cluster)];
        let mut seen = 0;
        while let Some((path, first)) = left.pop() {
            for (name, attributes, file) in self.entries(image, &table, first)? {
                seen += 1;
                let path = format!("{path}/{name}");
                if seen > MAX_ENTRIES || path.split('/').count() > MAX_DEPTH {
                    return Err(ViewError::Fat("too many directory entries, or a loop of directories"));
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

    /// Reads a whole file.
    ///
    /// # Errors
    /// Returns what is damaged in the file system, or that the file is longer than 2 MiB.
    pub fn read(&self, image: &dyn ReadAt, file: &FatFile) -> ViewResult<Vec<u8>> {
        let length = file.length as usize;
        if length > MAX_DIRECTORY_BYTES {
            return Err(ViewError::Fat("boot menu longer than 2 MiB"));
        }
        let chain = self.read_table(image)?.chain(self.clusters, file.first)?;
        let mut data = self.read_clusters(image, &chain)?;
        if data.len() < length {
            return Err(ViewError::Fat("file longer than its clusters"));
        }
        data.truncate(length);
        Ok(data)
    }

    /// Replaces the content of a file. Clusters are allocated or freed as needed.
    ///
    /// # Errors
    /// Returns `Fat` if the file system is damaged or has too few free clusters.
    pub fn replace(&self, builder: &mut OverlayBuilder<'_>, file: &FatFile, data: &[u8]) -> ViewResult<()> {
        let length = u32::try_from(data.len()).map_err(|_| ViewError::Fat("file longer than 4 GiB"))?;
        let mut table = self.read_table(builder)?;
        let mut chain = table.chain(self.clusters, file.first)?;
        let wanted = data.len().div_ceil(self.cluster as usize);
        let mut changed = Vec::new();
        for cluster in chain.split_off(wanted.min(chain.len())) {
            changed.push((cluster, 0));
        }
        let taken = table.free(self.clusters).take(wanted - chain.len()).collect::<Vec<_>>();
        chain.extend(taken);
        if chain.len() < wanted {
            return Err(ViewError::Fat("no free cluster left for the longer boot menu"));
        }
        let next = chain.iter().skip(1).copied().chain([table.end()]);
        changed.extend(chain.iter().copied().zip(next));
        for (cluster, value) in changed {
            let (at, bytes) = table.set_entry(cluster, value);
            for copy in &self.tables {
                builder.write(copy.offset + at as u64, &bytes)?;
            }
        }
        for (cluster, part) in chain.iter().zip(data.chunks(self.cluster as usize)) {
            builder.write(self.offset(*cluster), part)?;
        }
        let first = chain.first().copied().unwrap_or(0);
        builder.write(file.entry_at + 20, &((first >> 16) as u16).to_le_bytes())?;
        builder.write(file.entry_at + 26, &(first as u16).to_le_bytes())?;
        builder.write(file.entry_at + 28, &length.to_le_bytes())?;
        if let Some(info) = self.info_at {
            let free = table.free(self.clusters).count() as u32;
            builder.write(info + 488, &free.to_le_bytes())?;
        }
        Ok(())
    }

    /// Returns the offset of a cluster in the image, in bytes.
    fn offset(&self, cluster: u32) -> u64 {
        self.data_at + u64::from(cluster - 2) * self.cluster
    }

    /// Reads the first file allocation table.
    fn read_table(&self, image: &dyn ReadAt) -> ViewResult<FatTable> {
        let Some(place) = self.tables.first() else { return Err(ViewError::Fat("no file allocation table")) };
        let mut bytes = vec![0; place.length as usize];
        image.read_at(place.offset, &mut bytes).map_err(ViewError::read("a file allocation table"))?;
        Ok(FatTable { width: self.width, bytes })
    }

    /// Reads the content of a chain of clusters.
    fn read_clusters(&self, image: &dyn ReadAt, chain: &[u32]) -> ViewResult<Vec<u8>> {
        if chain.len() as u64 * self.cluster > MAX_DIRECTORY_BYTES as u64 + self.cluster {
            return Err(ViewError::Fat("directory or boot menu longer than 2 MiB"));
        }
        let mut data = vec![0; chain.len() * self.cluster as usize];
        for (part, cluster) in data.chunks_mut(self.cluster as usize).zip(chain) {
            image.read_at(self.offset(*cluster), part).map_err(ViewError::read("an EFI partition"))?;
        }
        Ok(data)
    }

    /// Reads a directory by its first cluster: names, attributes and entries. Cluster 0 is the fixed root.
    fn entries(&self, image: &dyn ReadAt, table: &FatTable, first: u32) -> ViewResult<Vec<(String, u8, FatFile)>> {
        let (data, chain) = if first == 0 && self.width != FatWidth::ThirtyTwo {
            let mut data = vec![0; self.fixed_root.length as usize];
            image.read_at(self.fixed_root.offset, &mut data).map_err(ViewError::read("an EFI partition"))?;
            (data, Vec::new())
        } else {
            let chain = table.chain(self.clusters, first)?;
            (self.read_clusters(image, &chain)?, chain)
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
                    let high = if self.width == FatWidth::ThirtyTwo { words[0] << 16 } else { 0 };
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

/// A long name. Its parts precede the directory entry, the last part first.
#[derive(Debug, Default)]
struct LongName {
    units: Vec<u16>,
    checksum: u8,
}

impl LongName {
    /// Adds the part of an entry.
    fn add(&mut self, entry: &[u8]) {
        let positions = [1_usize, 3, 5, 7, 9, 14, 16, 18, 20, 22, 24, 28, 30];
        let part: Vec<u16> = positions.iter().filter_map(|at| le16(entry, *at)).take_while(|unit| *unit != 0).collect();
        if entry[0] & 0x40 != 0 {
            self.units.clear();
        }
        self.checksum = entry[13];
        self.units.splice(0..0, part);
        self.units.truncate(255);
    }

    /// Returns the name if its checksum matches the short name of the entry.
    fn finish(self, entry: &[u8]) -> Option<String> {
        let sum = entry[..11].iter().fold(0_u8, |sum, byte| sum.rotate_right(1).wrapping_add(*byte));
        (!self.units.is_empty() && sum == self.checksum).then(|| String::from_utf16_lossy(&self.units))
    }
}

/// Returns the short name of an entry (8.3).
fn short_name(entry: &[u8]) -> String {
    let text = |raw: &[u8], lower: bool| {
        let text: String = raw.iter().map(|byte| char::from(*byte)).collect::<String>().trim_end().to_owned();
        if lower { text.to_ascii_lowercase() } else { text }
    };
    // Windows NT flags for names that are all in lower case.
    let (base, extension) = (text(&entry[..8], entry[12] & 8 != 0), text(&entry[8..11], entry[12] & 16 != 0));
    if extension.is_empty() { base } else { format!("{base}.{extension}") }
}

/// A file allocation table.
#[derive(Debug)]
struct FatTable {
    width: FatWidth,
    bytes: Vec<u8>,
}

impl FatTable {
    /// Returns the value that ends a chain.
    fn end(&self) -> u32 {
        match self.width {
            FatWidth::Twelve => 0xfff,
            FatWidth::Sixteen => 0xffff,
            FatWidth::ThirtyTwo => 0x0fff_ffff,
        }
    }

    /// Returns the entry of a cluster.
    fn next(&self, cluster: u32) -> Option<u32> {
        let cluster = cluster as usize;
        match self.width {
            FatWidth::Twelve => {
                let pair = le16(&self.bytes, cluster + cluster / 2)?;
                Some(u32::from(if cluster.is_multiple_of(2) { pair & 0xfff } else { pair >> 4 }))
            }
            FatWidth::Sixteen => le16(&self.bytes, cluster * 2).map(u32::from),
            FatWidth::ThirtyTwo => le32(&self.bytes, cluster * 4).map(|value| value & 0x0fff_ffff),
        }
    }

    /// Returns the clusters of a file.
    fn chain(&self, clusters: u32, first: u32) -> ViewResult<Vec<u32>> {
        let mut chain = Vec::new();
        let mut here = first;
        // An empty file has no cluster. The last eight values end a chain.
        while here != 0 && here < self.end() - 7 {
            if here < 2 || here - 2 >= clusters || chain.len() as u32 > clusters {
                return Err(ViewError::Fat("chain of clusters with a loop, or outside of the file system"));
            }
            chain.push(here);
            here = self.next(here).ok_or(ViewError::Fat("file allocation table too short"))?;
        }
        Ok(chain)
    }

    /// Returns the free clusters.
    fn free(&self, clusters: u32) -> impl Iterator<Item = u32> + '_ {
        (2..clusters.saturating_add(2)).filter(|cluster| self.next(*cluster) == Some(0))
    }

    /// Sets the entry of a cluster. Returns the offset and the new bytes in the table.
    fn set_entry(&mut self, cluster: u32, value: u32) -> (usize, Vec<u8>) {
        let number = cluster as usize;
        let (at, bytes) = match self.width {
            FatWidth::Twelve => {
                let at = number + number / 2;
                let pair = le16(&self.bytes, at).unwrap_or(0);
                let value = value as u16;
                let pair = if number.is_multiple_of(2) { pair & 0xf000 | value } else { pair & 0xf | value << 4 };
                (at, pair.to_le_bytes().to_vec())
            }
            FatWidth::Sixteen => (number * 2, (value as u16).to_le_bytes().to_vec()),
            FatWidth::ThirtyTwo => {
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

"""Views of an image: kernel arguments, added and replaced files, structures that grow and move. Others read the result."""

import filecmp
import hashlib
import os
import re

import pytest

from support.iso_images import GRUB_MENU, run, text, write
from support.iso_readers import (
    assert_has_arguments, assert_tables_as_sound, changed_files, content, driver, extracted, grub_reads, isoinfo, kernel_lines,
    long_arguments, refused, with_arguments)


def test_arguments_are_added_to_debians_menus(debian, here, view):
    shown = driver("view", debian, view, *with_arguments("--timeout", "3"))
    changed = changed_files(debian, view, here)
    assert set(changed) >= {"boot/grub/grub.cfg", "isolinux/txt.cfg", "isolinux/drk.cfg", "isolinux/isolinux.cfg"}, f"every menu changes: {set(changed)}"
    assert all(name.endswith((".cfg", "efi.img", "md5sum.txt")) for name in changed), f"nothing but menus changes: {set(changed)}"
    for path in extracted(view, here).rglob("*.cfg"):
        if kernel_lines(path.read_bytes()):
            assert_has_arguments(path.read_bytes(), "grub" in path.name)
    assert b"\ntimeout 30\n" in changed["isolinux/isolinux.cfg"], "ISOLINUX's timeout is set, in tenths of a second"
    assert changed["boot/grub/grub.cfg"].endswith(b"set timeout=3\n"), "GRUB's timeout is set"
    for name, data in changed.items():
        if name == "boot/grub/efi.img":
            continue
        assert isoinfo(view, f"/{name}", "-J") == data, f"Joliet's {name} is the same"
        assert isoinfo(view, f"/{name.upper()};1") == data, f"the plain name of {name} leads to the same file"
        assert grub_reads(view, f"/{name}") == data, f"GRUB reads the same {name}"
        assert run("7z", "x", "-so", view, name) == data, f"7-Zip reads the same {name}"
    assert "held" in shown and int(re.search(r"held (\d+)", shown)[1]) < 128 * 1024, f"a view takes less than 128 KiB of memory: {shown}"
    report = text("xorriso", "-indev", view, "-report_el_torito", "plain", "-report_system_area", "plain", stderr=None)
    assert "El Torito catalog" in report and "BIOS" in report and "UEFI" in report, f"xorriso finds both boot entries: {report}"
    assert_tables_as_sound(view, debian)


def test_a_menu_that_outgrows_its_sectors_moves(debian, here, view):
    driver("view", debian, view, *long_arguments(12, 120))
    length = view.stat().st_size
    assert length > debian.stat().st_size, "the view is longer than the ISO"
    changed = changed_files(debian, view, here)
    assert set(changed) >= {"boot/grub/grub.cfg", "isolinux/txt.cfg", "isolinux/adtxt.cfg"}, f"the menus change: {set(changed)}"
    menu = changed["boot/grub/grub.cfg"]
    assert grub_reads(view, "/boot/grub/grub.cfg") == menu, "GRUB reads the menu in its new place"
    assert isoinfo(view, "/boot/grub/grub.cfg", "-J") == menu, "Joliet leads to the new place"
    assert isoinfo(view, "/BOOT/GRUB/GRUB.CFG;1") == menu, "the plain name leads to the new place"
    size = int(re.search(r"Volume size is: (\d+)", text("isoinfo", "-d", "-i", view))[1]) * 2048
    assert debian.stat().st_size < size <= length, f"the volume's size includes the new place: {size} of {length}"
    assert_tables_as_sound(view, debian)
    with open(view, "rb") as file:
        head = file.read(1024)
        file.seek(-512, os.SEEK_END)
        assert head[512:520] == file.read(8) == b"EFI PART", "both GPT headers are there"
    assert int.from_bytes(head[512 + 32:512 + 40], "little") == length // 512 - 1, "the backup GPT header is the last sector"
    assert int.from_bytes(head[446 + 12:446 + 16], "little") == length // 512, "the MBR's partition ends with the view"
    driver("inspect", view)


def test_files_are_added_and_replaced(debian, here, view):
    names = ["ks.cfg", "preseed.cfg", "user-data", "meta-data", "README.html", "isolinux/txt.cfg", "pool/main/new.deb"]
    wanted, options = {}, []
    for name in names:
        source = write(here / "new" / name, f"this is {name}\n" * 300)
        wanted[name] = source.read_bytes()
        options += ["--file", f"/{name}={source}"]
    driver("view", debian, view, *options)
    changed = changed_files(debian, view, here)
    assert changed.pop("md5sum.txt"), "the list of checksums changes"
    assert changed == wanted, f"the files have the new content, and no other changes: {set(changed) ^ set(wanted)}"
    for name, data in wanted.items():
        assert isoinfo(view, f"/{name}", "-J") == data, f"{name} is read by its Joliet name"
        assert isoinfo(view, f"/{name}", "-R") == data, f"{name} is read by its Rock Ridge name"
        assert grub_reads(view, f"/{name}") == data, f"{name} is read by GRUB"
    assert isoinfo(view, "/USER-DATA.;1") == wanted["user-data"], "user-data is read by its plain name"
    source = here / "new/ks.cfg"
    for path, reason in (("/none/x", "no such directory"), ("/isolinux", "\"/isolinux\""), ("/a b", "64")):
        message = refused("view", debian, view, "--file", f"{path}={source}")
        assert reason in message, f"the file {path} is refused: {message}"


def test_the_images_list_of_checksums_stays_correct(debian, here, view):
    shown = driver("view", debian, view, *with_arguments("--timeout", "2", "--file", f"/README.html={write(here / 'new', 'other')}"))
    assert "changed efi:/EFI/debian/grub.cfg" in shown and "changed /md5sum.txt" in shown, f"the changes are shown: {shown}"
    for image in (debian, view):
        run("md5sum", "-c", "--quiet", "md5sum.txt", cwd=extracted(image, here))


def test_an_empty_file_is_replaced_alone(debian, here, view):
    driver("view", debian, view, "--file", f"/empty-1={write(here / 'new', 'no longer')}")
    changed = changed_files(debian, view, here)
    assert changed.pop("md5sum.txt") and changed == {"empty-1": b"no longer"}, f"one file changes: {changed}"
    assert isoinfo(view, "/empty-1", "-J") == b"no longer" and isoinfo(view, "/empty-2", "-J") == b"", "the other empty file stays empty"


@pytest.fixture(scope="module")
def full_tree(place):
    """Files that fill the sector of the root directory."""
    tree = place / "full"
    for number in range(24):
        write(tree / f"directory-{number:02}/file", f"{number}")
        write(tree / f"file-{number:02}.txt", f"{number}")
    return tree


@pytest.mark.parametrize("options", [["-R", "-J"], [], ["-J"], ["-iso-level", "4", "-R"]], ids=["rock-ridge-joliet", "plain", "joliet", "level-4"])
def test_a_full_root_directory_moves(full_tree, here, view, options):
    iso, files = here / "full.iso", []
    run("genisoimage", "-quiet", *options, "-o", iso, full_tree)
    for number in range(60):
        files += ["--file", f"/seed-{number:02}.cfg={write(here / 'seeds' / str(number), f'seed {number}')}"]
    driver("view", iso, view, *files)
    listing = driver("ls", view).lower()
    for number in (0, 30, 59):
        name, wanted = f"/seed-{number:02}.cfg", b"seed %d" % number
        for how in [["-R"]] * ("-R" in options) + [["-J"]] * ("-J" in options):
            assert isoinfo(view, name, *how) == wanted, f"isoinfo {how} reads {name}"
        assert content(view, name) == wanted, f"the library reads {name}"
        assert grub_reads(view, name) == wanted, f"GRUB reads {name}"
    assert "directory-23/file" in listing or "directory" in listing, f"the directories are listed: {listing}"
    for root in sorted(extracted(view, here).iterdir()):
        if root.name.lower().startswith("directory"):
            assert (root / "file").exists() or any(root.iterdir()), f"{root.name} has its file"
    # The path tables name the root's new place, and its own first record names the same.
    tables = text("isoinfo", "-p", "-i", view).splitlines()
    root = int(re.search(r"^ +1: +1 +([0-9a-f]+)", "\n".join(tables), re.M)[1], 16)
    with open(view, "rb") as file:
        file.seek(32768 + 156 + 2)
        assert int.from_bytes(file.read(4), "little") == root, "the volume descriptor names the root's place"
        file.seek(root * 2048 + 2)
        assert int.from_bytes(file.read(4), "little") == root, "the root's own record names its place"
    assert root * 2048 >= iso.stat().st_size, "the root directory moved past the end of the ISO"
    assert len(tables) >= 25, f"every directory is in the path table: {tables}"


def test_the_same_customization_gives_the_same_bytes(debian, here, view):
    seed = write(here / "seed", "x")
    tags, sums = set(), set()
    for _ in range(2):
        tags.add(driver("view", debian, view, *with_arguments("--file", f"/ks.cfg={seed}")).splitlines()[0])
        sums.add(hashlib.sha256(view.read_bytes()).hexdigest())
    assert len(tags) == len(sums) == 1, f"two views have the same tag and the same bytes: {tags}, {sums}"
    assert driver("view", debian, view, *with_arguments()).splitlines()[0] not in tags, "another view has another tag"
    driver("view", debian, view)
    assert filecmp.cmp(debian, view, shallow=False), "a view without customization is the ISO"


def test_an_image_of_grub_mkrescue_is_viewed(here, view):
    iso = here / "mkrescue.iso"
    write(here / "rescue/boot/grub/grub.cfg", GRUB_MENU)
    run("grub-mkrescue", "-o", iso, here / "rescue")
    driver("view", iso, view, *long_arguments(12, 120))
    changed = changed_files(iso, view, here)
    assert set(changed) == {"boot/grub/grub.cfg"}, f"only the menu changes: {set(changed)}"
    assert grub_reads(view, "/boot/grub/grub.cfg") == changed["boot/grub/grub.cfg"], "GRUB reads the changed menu"
    assert_tables_as_sound(view, iso)


def test_debians_own_images_are_viewed(material, here, view):
    shown = driver("view", material.memtest, view, "--append", "x")
    assert "kernel line" in shown and "changed" not in shown, f"memtest86+ has no menu to change, which is said: {shown}"
    assert view.read_bytes() == material.memtest.read_bytes(), "its view is the ISO as it is"
    note = write(here / "note", "hello\n")
    for iso in (material.memtest, material.rescue):
        driver("view", iso, view, "--file", f"/note.txt={note}")
        changed = changed_files(iso, view, here)
        assert changed == {"note.txt": b"hello\n"}, f"{iso.name}: a file is added: {changed}"
        assert grub_reads(view, "/note.txt") == b"hello\n", f"{iso.name}: GRUB reads the file"
    driver("view", material.rescue, view, "--append", "console=ttyS0")
    assert b"console=ttyS0" in grub_reads(view, "/boot/grub/grub.cfg"), "GRUB's rescue CD has the argument in its menu"

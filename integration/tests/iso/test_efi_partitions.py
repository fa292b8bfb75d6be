"""Views that change the EFI partition inside of an image: its menu, its file system, its free space."""

import os
import re

import pytest

from support.iso_images import fedora_iso, run, text, write
from support.iso_readers import assert_has_arguments, changed_files, driver, long_arguments, refused, with_arguments


@pytest.mark.parametrize("width, kib", [("12", 2880), ("16", 16 * 1024), ("32", 40 * 1024)], ids=["fat12", "fat16", "fat32"])
def test_the_menu_in_the_efi_partition_changes_with_the_isos(here, view, width, kib):
    iso = fedora_iso(here, width, kib)
    assert "(Fedora)" in driver("inspect", iso), "the image is recognised"
    shown = driver("view", iso, view, *with_arguments(*long_arguments(10, 120, "y")))
    assert "changed efi:/EFI/BOOT/grub.cfg" in shown and "changed /EFI/BOOT/grub.cfg" in shown, f"both menus are shown as changed: {shown}"
    changed = changed_files(iso, view, here)
    assert set(changed) == {"EFI/BOOT/grub.cfg", "images/efiboot.img"}, f"only the menu and the partition change: {set(changed)}"
    assert_has_arguments(changed["EFI/BOOT/grub.cfg"], True)
    image = write(here / "efiboot.img", changed["images/efiboot.img"])
    assert run("mtype", "-i", image, "::EFI/BOOT/grub.cfg") == changed["EFI/BOOT/grub.cfg"], "mtools reads the same menu in the partition"
    report = text("fsck.fat", "-n", image)
    assert len(report.splitlines()) == 2, f"fsck.fat prints its version and the count of files only: {report}"
    assert run("mtype", "-i", image, "::EFI/BOOT/a long file name.txt") == b"x", "other files of the partition are unchanged"


def test_an_efi_partition_without_free_space_is_refused(here, view):
    iso = fedora_iso(here, "12", 2880)
    offset = int(re.search(r"UEFI.* at byte (\d+)", driver("inspect", iso))[1])
    free = re.search(r"([\d ]+) bytes free", text("mdir", "-i", f"{iso}@@{offset}", "::"))
    filler = write(here / "filler", os.urandom(int(free[1].replace(" ", ""))))
    run("mcopy", "-i", f"{iso}@@{offset}", filler, "::filler")
    message = refused("view", iso, view, *long_arguments(10, 150, "y"))
    assert "no free cluster" in message, f"a menu that does not fit into the partition is refused: {message}"

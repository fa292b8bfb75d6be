"""CoreOS: the areas of an image that are reserved for kernel arguments and for an Ignition config."""

import json
import re

import pytest

from support.iso_images import run, write
from support.iso_readers import changed_files, driver, long_arguments, refused

ARGUMENTS = "coreos.liveiso=fedora-coreos-41 ignition.firstboot ignition.platform.id=metal"
AREA = 1139
MENUS = ("EFI/fedora/grub.cfg", "isolinux/isolinux.cfg")


@pytest.fixture(scope="module")
def tree(place):
    tree = place / "coreos"
    area = ARGUMENTS + "\n" + "#" * (AREA - len(ARGUMENTS) - 1)
    menu = (f"set timeout=1\nmenuentry 'Fedora CoreOS (Live)' {{\n\tlinux /images/pxeboot/vmlinuz {area}\n"
            "\tinitrd /images/pxeboot/initrd.img /images/ignition.img\n}\n")
    isolinux = f"default linux\nlabel linux\n  kernel /images/pxeboot/vmlinuz\n  append initrd=/images/pxeboot/initrd.img,/images/ignition.img {area}\n"
    write(tree / "EFI/fedora/grub.cfg", menu)
    write(tree / "isolinux/isolinux.cfg", isolinux)
    write(tree / "images/ignition.img", bytes(262144))
    write(tree / "images/pxeboot/vmlinuz", "kernel")
    write(tree / "coreos/kargs.json", json.dumps({"default": ARGUMENTS, "size": AREA, "files": [
        {"path": "EFI/fedora/grub.cfg", "offset": menu.index(ARGUMENTS)},
        {"path": "isolinux/isolinux.cfg", "offset": isolinux.index(ARGUMENTS)}]}))
    write(tree / "coreos/igninfo.json", json.dumps({"file": "images/ignition.img"}))
    return tree


@pytest.fixture(scope="module")
def iso(tree, place):
    run("genisoimage", "-quiet", "-R", "-J", "-V", "fedora-coreos-41.2025", "-o", place / "coreos.iso", tree)
    return place / "coreos.iso"


def embedded(here, archive):
    """Returns the config in an Ignition area."""
    folder = here / f"cpio-{len(list(here.glob('cpio-*')))}"
    folder.mkdir()
    run("cpio", "-i", "-D", folder, input=archive)
    return (folder / "config.ign").read_bytes()


def test_the_areas_are_recognised(iso):
    shown = driver("inspect", iso)
    assert "(CoreOS)" in shown and re.search("Ignition area of 262144 bytes, 2 ", shown), f"the image and its areas are recognised: {shown}"


def test_arguments_and_config_are_written_into_the_areas(tree, iso, here, view):
    ignition = write(here / "config.ign", '{"ignition":{"version":"3.4.0"}}')
    driver("view", iso, view, "--append", "ignition.config.url=http://h/i", "--append", "console=ttyS0", "--ignition", ignition)
    assert view.stat().st_size == iso.stat().st_size, "the areas have room, so the view is not longer"
    changed = changed_files(iso, view, here)
    assert set(changed) == {*MENUS, "images/ignition.img"}, f"only the areas change: {set(changed)}"
    for name in MENUS:
        assert f"{ARGUMENTS} ignition.config.url=http://h/i console=ttyS0\n###".encode() in changed[name], f"{name} has the arguments in its area"
        assert len(changed[name]) == (tree / name).stat().st_size, f"{name} keeps its length"
    assert embedded(here, changed["images/ignition.img"]) == ignition.read_bytes(), "the config is in the Ignition area"


def test_a_config_longer_than_its_area_moves(iso, here, view):
    """OKD's bootstrap config is such a one."""
    ignition = write(here / "big.ign", json.dumps({"ignition": {"version": "3.4.0"}, "x": "y" * 400_000}))
    driver("view", iso, view, "--ignition", ignition)
    changed = changed_files(iso, view, here)
    assert set(changed) == {"images/ignition.img"}, f"only the Ignition file changes: {set(changed)}"
    assert embedded(here, changed["images/ignition.img"]) == ignition.read_bytes(), "the config is complete"


def test_arguments_longer_than_their_area_change_the_menus_lines(iso, view):
    shown = driver("view", iso, view, *long_arguments(10, 120, "y"))
    assert "do not fit" in shown and "changed /EFI/fedora/grub.cfg" in shown, f"the lines of the menus are changed: {shown}"


def test_an_image_without_the_area_refuses_a_config(debian, here, view):
    message = refused("view", debian, view, "--ignition", write(here / "config.ign", '{"ignition":{"version":"3.4.0"}}'))
    assert "it has no Ignition embed area" in message, f"the reason is given: {message}"

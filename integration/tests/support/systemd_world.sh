# systemd_world.sh TREE FOLDER BINARY NAME: boots the systemd of a Debian tree as PID 1 of new namespaces, in the network
# namespace of the caller. Changes to the tree are in FOLDER and in memory only. BINARY becomes /usr/bin/bootlatch, unless it is
# `none`.
set -eu
tree=$1 folder=$2 binary=$3 name=$4

# systemd wants a control group of its own.
groups=$(awk '$3 == "cgroup2" { print $2; exit }' /proc/mounts)
mkdir -p "$groups/$name"
echo $$ >"$groups/$name/cgroup.procs"

exec unshare --mount --pid --uts --ipc --cgroup --fork --kill-child bash -c '
set -eu
tree=$1 folder=$2 binary=$3
mount --make-rprivate /
mkdir -p "$folder/world"
mount -t tmpfs -o size=1g,mode=755 tmpfs "$folder/world"
mkdir "$folder/world/upper" "$folder/world/work" "$folder/world/root"
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$folder/world/upper,workdir=$folder/world/work" "$folder/world/root"
root=$folder/world/root
mount -t proc proc "$root/proc"
mount --bind "$root/proc/sys" "$root/proc/sys"
mount --bind "$root/proc/sys/net" "$root/proc/sys/net"
mount -o remount,bind,ro "$root/proc/sys"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null:1:3 zero:1:5 full:1:7 random:1:8 urandom:1:9 tty:5:0; do
  IFS=: read -r file major minor <<<"$node"
  mknod -m 666 "$root/dev/$file" c "$major" "$minor"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mkdir "$root/test"
mount --bind "$folder" "$root/test"
if [ "$binary" != none ]; then
  touch "$root/usr/bin/bootlatch"
  mount --bind -o ro "$binary" "$root/usr/bin/bootlatch"
fi
hostname appliance
cd "$root"
mkdir .old
pivot_root . .old
umount -l /.old
# As of a machine: what systemd mounts for a unit, such as its credentials, is passed on to the namespace of the unit.
mount --make-rshared /
exec env -i container=unshare PATH=/usr/sbin:/usr/bin:/sbin:/bin /sbin/init --log-target=console --show-status=no
' _ "$tree" "$folder" "$binary"

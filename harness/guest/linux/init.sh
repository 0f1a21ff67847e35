#!/bin/sh
# The init of the Linux guest. It is process 1 of an initramfs and is told what to
# do by words of the kernel command line, which the kernel puts into its
# environment:
#   osv_ip=10.0.0.2/24  osv_gw=10.0.0.1   network of eth0; none = no network
#   osv_sysctl=a.b=1,c.d=2                written before the service starts
#   osv_files=/path=value,/path=value     the same for files under /sys
#   osv_ports=tcp:11211,udp:11211         open ports that mean "ready"
#   osv_svc="memcached -u root ..."       the service; none = only say ready
#   osv_xdp=eth0                          put the XDP cache on this interface first
#   osv_syms=1                            list the kernel's code symbols, for a profile
#   osv_end=poweroff                      power off once ready
echo "OSV-GUEST init"
fail() {
	echo "OSV-GUEST fail $*"
	poweroff -f
}
mount -t proc proc /proc || fail "mount /proc"
mount -t sysfs sys /sys || fail "mount /sys"
mount -t devtmpfs dev /dev || fail "mount /dev"
mkdir -p /dev/shm
mount -t tmpfs shm /dev/shm || fail "mount /dev/shm"

while read -r m; do
	insmod "/lib/modules/$m" || fail "module $m"
done </lib/modules/order

ip link set lo up || fail "interface lo"
if [ -n "$osv_ip" ]; then
	n=0
	until [ -e /sys/class/net/eth0 ]; do
		n=$((n + 1))
		[ $n -lt 400 ] || fail "no eth0 after 2 s"
		usleep 5000
	done
	ip addr add "$osv_ip" dev eth0 || fail "address $osv_ip"
	ip link set eth0 up || fail "interface eth0"
	if [ -n "$osv_gw" ]; then
		ip route add default via "$osv_gw" || fail "route via $osv_gw"
	fi
fi

IFS=,
for s in $osv_sysctl; do
	sysctl -q -w "$s" || fail "sysctl $s"
done
for f in $osv_files; do
	echo "${f#*=}" >"${f%%=*}" || fail "file $f"
done
unset IFS

if [ -n "$osv_xdp" ]; then
	while read -r m; do
		insmod "/lib/modules/$m" || fail "module $m"
	done </lib/modules/xdp
	xdpload "$osv_xdp" || fail "XDP cache on $osv_xdp"
fi

name=none
if [ -n "$osv_svc" ]; then
	name=${osv_svc%% *}
	# Word splitting is wanted: the value is a command line.
	$osv_svc &
	pid=$!
fi

open() {
	hex=$(printf %04X "${1#*:}")
	case $1 in
	tcp:*) grep -qE ":$hex 0{8,32}:0000 0A" /proc/net/tcp /proc/net/tcp6 ;;
	udp:*) grep -qE ":$hex 0{8,32}:0000 07" /proc/net/udp /proc/net/udp6 ;;
	*) fail "port $1" ;;
	esac
}
IFS=,
for p in $osv_ports; do
	until open "$p"; do
		kill -0 "$pid" 2>/dev/null || fail "$name ended before it listened on $p"
		usleep 2000
	done
done
unset IFS
echo "OSV-GUEST ready $name"

fact() {
	echo "OSV-GUEST fact $*"
}
fact kernel "$(uname -r)"
fact cmdline "$(cat /proc/cmdline)"
fact cpus "$(nproc)"
while read -r k v _; do
	case $k in
	MemTotal: | MemFree: | MemAvailable:) fact "${k%:}" "$v kB" ;;
	esac
done </proc/meminfo
for v in /sys/devices/system/cpu/vulnerabilities/*; do
	read -r text <"$v"
	[ "$text" = "Not affected" ] || fact "vulnerability.${v##*/}" "$text"
done
fact clocksource "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)"
fact thp "$(cat /sys/kernel/mm/transparent_hugepage/enabled)"
for q in /sys/class/net/eth0/queues/*; do
	[ -e "$q" ] && fact "queue.${q##*/}" present
done
[ -n "$osv_svc" ] && fact service "$osv_svc"
for s in net.core.busy_poll net.core.busy_read net.core.somaxconn; do
	fact "sysctl.$s" "$(sysctl -n $s)"
done
if [ -n "$osv_syms" ]; then
	sysctl -q -w kernel.kptr_restrict=0
	grep -E '^[0-9a-f]+ [tTwW] ' /proc/kallsyms | sed 's/^/OSV-GUEST sym /'
fi
fact end of facts

if [ "$osv_end" = poweroff ]; then
	poweroff -f
fi
if [ -n "$osv_svc" ]; then
	wait "$pid"
	echo "OSV-GUEST exit $name $?"
	poweroff -f
fi
while :; do
	sleep 3600
done

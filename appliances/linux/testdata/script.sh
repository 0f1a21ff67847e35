# What shell scripts lean on, one section each. It ends with status 3 and prints the
# same on every Linux.
T=$(mktemp -d /tmp/script.XXXXXX)
cd "$T" || exit 1
exec </dev/null 2>/dev/null # the console of a guest is both outputs
say() { echo "== $*"; }

say loops
i=0
while [ $i -lt 5 ]; do i=$((i + 1)); [ $i = 3 ] && continue; echo "while $i"; done
for w in a "b c" d; do echo "for <$w>"; done
until [ $i = 0 ]; do i=$((i - 1)); done
echo "until $i"

say pipes
seq 1 1000 | grep 7 | sort -rn | head -n 3
seq 1 20000 | wc -l
yes | head -n 100000 | md5sum
echo one two three | { read a b; echo "$b/$a"; }
true | false; echo "last $?"
(set -o pipefail; false | true; echo "pipefail $?")
printf 'c\nb\na\n' | sort | tr '\n' ' ' | sed 's/ $/\n/'

say redirections
echo first >f; echo second >>f; cat <f
{ echo out; echo err >&2; } >both 2>&1; sort both
ls nothing 2>/dev/null || echo "no such file"
exec 5>five; echo "to five" >&5; exec 5>&-; cat five
exec 6<f; read x <&6; read y <&6; echo "$y after $x"; exec 6<&-
: >empty; wc -c <empty
(set -C; echo x >f) 2>/dev/null || echo "noclobber"

say here-documents
v=value
cat <<END
$v and $(echo command) and $((6 * 7))
END
cat <<'END'
$v stays
END
cat <<-END
	tabs go
END

say traps
trap 'echo "got USR1"' USR1
kill -USR1 $$
(trap 'echo "child leaves"' EXIT; exit 4); echo "status $?"
sh -c 'trap "" TERM; kill -TERM $$; echo survived'
sh -c 'kill -KILL $$'; echo "killed $?"
sh -c 'trap "echo term; exit 9" TERM; kill -TERM $$; sleep 60'; echo "trap status $?"

say jobs
sleep 60 & p=$!
kill $p; wait $p; echo "wait $?"
for n in 1 2 3 4 5 6 7 8; do (exit $n) & eval "p$n=$!"; done
for n in 1 2 3 4 5 6 7 8; do eval "wait \$p$n"; echo "job $n: $?"; done
(sleep 0.2; echo later >late) & wait; cat late
mkfifo pipe; (echo "through a fifo" >pipe) & cat <pipe; wait

say files
mkdir -p a/b/c; echo x >a/b/c/x; ln -s b/c a/link; ln a/b/c/x a/hard
cat a/link/x; stat -c '%h %s %F' a/hard; readlink a/link
find a | sort
cp -r a copy; mv copy moved; rm -r a; ls moved | cat
chmod 640 f; stat -c %a f; touch -d '2020-01-02 03:04:05' f; stat -c %Y f
tar -cf t.tar moved f; tar -tf t.tar | sort; gzip -c t.tar | gunzip | cmp - t.tar && echo "gzip ok"
dd if=/dev/zero of=zeros bs=4096 count=64 2>/dev/null; md5sum <zeros
dd if=/dev/urandom bs=1000 count=100 2>/dev/null | wc -c
echo moved/* | tr ' ' '\n'

say text
printf 'k1 3\nk2 5\nk1 4\n' | awk '{ s[$1] += $2 } END { for (k in s) print k, s[k] }' | sort
echo 'a-b-c' | sed 's/-/+/g'; echo abc | cut -c2; printf 'x\tz\n' | expand | cat -A
printf '%05d|%-5s|%x\n' 42 ab 255
diff f five | head -n 4
echo aGVsbG8K | base64 -d; echo hello | sha256sum; expr 7 \* 6; xargs -n 2 echo <both
case abc in a*) echo "case ok" ;; esac
f() { local v=inner; echo "$v $# $2"; }; f 1 2 3; echo "$v"
set -- x y z; shift; echo "$# $1 ${2:-none} ${nothing:-default} ${v#va} ${v%e} ${#v}"

say processes
sh -c 'echo "args: $0 $1"' zero one
env -i A=1 sh -c 'echo "A=$A HOME=$HOME"'
n=0; while [ $n -lt 60 ]; do n=$((n + 1)); /bin/true 2>/dev/null || true; (exit 0); done; echo "$n children"
$(echo echo) substituted
timeout 1 sleep 60; echo "timeout $?"
ulimit -n 64; ulimit -n
umask 027; : >masked; stat -c %a masked
test -d /proc/self && readlink /proc/self/cwd | sed 's/script\..*/script/'

cd /; rm -r "$T"
say end
exit 3

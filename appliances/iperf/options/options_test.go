package options

import (
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"osv/appliances/iperf/iperf3"
)

func parse(t *testing.T, line string) Options {
	t.Helper()
	o, err := Parse(strings.Fields(line))
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return o
}

func TestServesByDefault(t *testing.T) {
	o := parse(t, "")
	if !o.Server || o.Port != 5201 || o.Iperf2Port != 5001 || o.Interval != time.Second || o.IntervalOn || o.Idle != 2*time.Minute {
		t.Errorf("%+v", o)
	}
	o = parse(t, "-s -1 -V -p 99 -i 0 -B 10.0.0.1 --iperf2-port 0 -4 --rcv-timeout 500 -J -I file -T title")
	if !o.Server || !o.OneOff || !o.Verbose || o.Port != 99 || o.Interval != 0 || o.Bind != netip.MustParseAddr("10.0.0.1") ||
		o.Iperf2Port != 0 || o.Family != 4 || o.Idle != 500*time.Millisecond || !o.JSON || o.PIDFile != "file" || o.Params.Title != "title" {
		t.Errorf("%+v", o)
	}
}

func TestClient(t *testing.T) {
	o := parse(t, "-c host -t 2.5 -P 8 -R -O 1 -w 64K -M 1400 -b 10M/5 -l 8K -N -S 0x10 -C cubic --cport 7000 --connect-timeout 100 --get-server-output --extra-data x -i 0.5 -f M")
	want := iperf3.Params{
		Protocol: iperf3.TCP, Time: 2500 * time.Millisecond, Parallel: 8, Reverse: true, Omit: time.Second, Window: 65536, MSS: 1400,
		Bitrate: 10e6, Burst: 5, Block: 8192, NoDelay: true, TOS: 16, Congestion: "cubic", ServerOutput: true, ExtraData: "x",
	}
	if o.Client != "host" || o.Server || !reflect.DeepEqual(o.Params, want) || o.ClientPort != 7000 || o.ConnectTimeout != 100*time.Millisecond ||
		o.Interval != 500*time.Millisecond || !o.IntervalOn || o.Format != 'M' {
		t.Errorf("%+v", o)
	}
	o = parse(t, "-c h -u --bidir --udp-counters-64bit -6")
	if o.Params.Protocol != iperf3.UDP || o.Params.Bitrate != 1<<20 || !o.Params.Bidir || !o.Params.UDP64 || o.Family != 6 || o.Params.Time != 10*time.Second {
		t.Errorf("%+v", o)
	}
	if o = parse(t, "-c h -u -b 0"); o.Params.Bitrate != 0 {
		t.Errorf("-b 0: %+v", o)
	}
	if o = parse(t, "-c h -n 1M"); o.Params.Bytes != 1<<20 || o.Params.Time != 0 {
		t.Errorf("-n: %+v", o)
	}
	if o = parse(t, "-c h -k 10K --pacing-timer 5000"); o.Params.Blocks != 10240 || o.Params.PacingTimer != 5*time.Millisecond {
		t.Errorf("-k: %+v", o)
	}
}

func TestSpelling(t *testing.T) {
	for _, line := range []string{
		"-sV1p7", "-s -V -1 -p7", "--server --verbose --one-off --port=7", "--server --verb --one --port 7", "-V1sp 7",
	} {
		o := parse(t, line)
		if !o.Server || !o.Verbose || !o.OneOff || o.Port != 7 {
			t.Errorf("%q: %+v", line, o)
		}
	}
	for _, line := range []string{"-h", "--help", "-c h --nothing-after -h"} {
		o, err := Parse(strings.Fields(line))
		if line == "-c h --nothing-after -h" {
			if err == nil {
				t.Errorf("%q was accepted", line)
			}
		} else if err != nil || !o.Help {
			t.Errorf("%q: %v", line, err)
		}
	}
	for _, line := range []string{"-v", "--version"} {
		if o := parse(t, line); !o.Version {
			t.Error(line)
		}
	}
	// Accepted without a meaning.
	parse(t, "-s -D -d --forceflush")
	parse(t, "-c h -Z --repeating-payload --snd-timeout 5 --bandwidth 1M")
}

func TestMistakes(t *testing.T) {
	for line, want := range map[string]string{
		"-s -c h":                     "both server and client",
		"-t 5":                        "needs -c HOST",
		"-s -t 5":                     "option of the client",
		"-c h -1":                     "option of the server",
		"-c h -t 5 -n 5":              "only one of",
		"-c h -R --bidir":             "both reverse and bidirectional",
		"-c h -x":                     "unknown option -x",
		"-c h --bogus":                "unknown option --bogus",
		"--ver":                       "may be",
		"-c":                          "needs a value",
		"--client":                    "needs a value",
		"-c h --reverse=1":            "takes no value",
		"word":                        "not an option",
		"-":                           "not an option",
		"--":                          "not an option",
		"-p 0":                        "1 to 65535",
		"-p x":                        "1 to 65535",
		"-c h -t -1":                  "want seconds",
		"-c h -t 0":                   "want seconds",
		"-c h -P 129":                 "1 to 128",
		"-c h -l 2M":                  "1 to 1048576",
		"-c h -l 0":                   "1 to 1048576",
		"-c h -M 10":                  "64 to 9216",
		"-c h -S 256":                 "0 to 255",
		"-c h -b 1M/0":                "behind the slash",
		"-c h -b x":                   "want a number",
		"-c h -w x":                   "want a number",
		"-f x":                        "one of kmgtKMGT",
		"-B nowhere":                  "not an address",
		"-c h --sctp":                 "SCTP (--sctp) is not supported",
		"-s --server-bitrate-limit 1": "not supported",
		"-c h --username u":           "authentication",
		"-c h -A 1":                   "affinity",
		"-s --rsa-private-key-path f": "authentication",
		"-s -F file":                  "-F",
	} {
		_, err := Parse(strings.Fields(line))
		var u UsageError
		if !errors.As(err, &u) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q in it", line, err, want)
		}
	}
}

func TestHelpNamesAllOptions(t *testing.T) {
	help := HelpText()
	seen := map[byte]bool{}
	names := map[string]bool{}
	for _, o := range table {
		if o.help != "" && !strings.Contains(help, "--"+o.long) {
			t.Errorf("--%s is not in the help", o.long)
		}
		if o.short != 0 && seen[o.short] || names[o.long] {
			t.Errorf("-%c, --%s: twice", o.short, o.long)
		}
		seen[o.short], names[o.long] = true, true
	}
	for _, l := range strings.Split(help, "\n") {
		if len(l) > 100 {
			t.Errorf("a long line: %q", l)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("-c host -t 2.5 -P 8 -R -b 10M/5")
	f.Add("-sV1p7 --one-off")
	f.Fuzz(func(t *testing.T, line string) {
		o, err := Parse(strings.Fields(line))
		var u UsageError
		if err != nil && !errors.As(err, &u) {
			t.Fatalf("%q: %T %v", line, err, err)
		}
		if err == nil && !o.Help && !o.Version && o.Server == (o.Client != "") {
			t.Fatalf("%q: neither or both ends", line)
		}
	})
}

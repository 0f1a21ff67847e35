package iperf3

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"
)

// What Debian's iperf3 3.12 sends for some command lines.
func TestParseParams(t *testing.T) {
	for _, c := range []struct {
		name, text string
		want       Params
	}{
		{"plain", `{"tcp":true,"omit":0,"time":10,"num":0,"blockcount":0,"parallel":1,"len":131072,"pacing_timer":1000,"client_version":"3.12"}`,
			Params{Protocol: TCP, Time: 10 * time.Second, Parallel: 1, Block: 131072, PacingTimer: time.Millisecond, ClientVersion: "3.12"}},
		{"-u -b 10M -P 2 -R -O 1", `{"udp":true,"omit":1,"time":2,"num":0,"blockcount":0,"parallel":2,"reverse":true,"len":1448,"bandwidth":10000000,"pacing_timer":1000,"client_version":"3.12"}`,
			Params{Protocol: UDP, Omit: time.Second, Time: 2 * time.Second, Parallel: 2, Reverse: true, Block: 1448, Bitrate: 10e6, PacingTimer: time.Millisecond, ClientVersion: "3.12"}},
		{"-n, --bidir, -w, -M, -N, -S", `{"tcp":true,"omit":0,"time":0,"num":1048576,"blockcount":0,"nodelay":true,"MSS":1000,"parallel":1,"bidirectional":true,"window":65536,"len":131072,"TOS":8,"get_server_output":1,"udp_counters_64bit":1,"title":"t","extra_data":"x","congestion":"cubic","burst":4}`,
			Params{Protocol: TCP, Bytes: 1 << 20, NoDelay: true, MSS: 1000, Parallel: 1, Bidir: true, Window: 65536, Block: 131072, TOS: 8, ServerOutput: true, UDP64: true, Title: "t", ExtraData: "x", Congestion: "cubic", Burst: 4, PacingTimer: time.Millisecond}},
		{"minus one, unsigned", `{"tcp":true,"time":5,"num":18446744073709551615,"blockcount":18446744073709551615,"parallel":1,"len":8192,"TOS":18446744073709551615,"window":18446744073709551615}`,
			Params{Protocol: TCP, Time: 5 * time.Second, Parallel: 1, Block: 8192, PacingTimer: time.Millisecond}},
		{"fractions and large numbers", `{"tcp":true,"omit":0.5,"time":2.5,"num":1e30,"parallel":1.0,"len":1000,"bandwidth":1e99}`,
			Params{Protocol: TCP, Omit: 500 * time.Millisecond, Time: 2500 * time.Millisecond, Bytes: huge, Parallel: 1, Block: 1000, Bitrate: huge, PacingTimer: time.Millisecond}},
		{"unknown members, null", `{"tcp":true,"time":1,"gso":1,"gro":{"a":[1,2,{"b":null}]},"parallel":null,"len":null,"title":null,"zerocopy":1,"skip_rx_copy":1}`,
			Params{Protocol: TCP, Time: time.Second, Parallel: 1, Block: 131072, PacingTimer: time.Millisecond}},
		{"nothing", `{}`, Params{Protocol: TCP, Parallel: 1, Block: 131072, PacingTimer: time.Millisecond}},
		{"false flags", `{"tcp":true,"udp":false,"reverse":false,"sctp":0}`, Params{Protocol: TCP, Parallel: 1, Block: 131072, PacingTimer: time.Millisecond}},
		{"UDP without a length", `{"udp":true}`, Params{Protocol: UDP, Parallel: 1, Block: 1460, PacingTimer: time.Millisecond}},
	} {
		got, err := parseParams([]byte(c.text))
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v\n got %+v\nwant %+v", c.name, err, got, c.want)
		}
		// What we would send for it means the same.
		text, err := json.Marshal(got)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseParams(text)
		if err != nil || !reflect.DeepEqual(again, got) {
			t.Errorf("%s, sent as %s: %v\n got %+v\nwant %+v", c.name, text, err, again, got)
		}
	}
}

func TestParamsRefused(t *testing.T) {
	for text, code := range map[string]int{
		``:                                codeRecvParams,
		`{`:                               codeRecvParams,
		`[]`:                              codeRecvParams,
		`{"time":"ten"}`:                  codeRecvParams,
		`{"time":[1]}`:                    codeRecvParams,
		`{"title":7}`:                     codeRecvParams,
		`{"parallel":129}`:                codeNumStreams,
		`{"parallel":-1}`:                 codeNumStreams,
		`{"len":-1}`:                      codeBlockSize,
		`{"len":1048577}`:                 codeBlockSize,
		`{"udp":true,"len":15}`:           codeUDPBlock,
		`{"udp":true,"len":65508}`:        codeUDPBlock,
		`{"window":536870913}`:            codeBufSize,
		`{"MSS":9217}`:                    codeMSS,
		`{"time":86401}`:                  codeDuration,
		`{"time":-1}`:                     codeDuration,
		`{"time":18446744073709551615}`:   codeDuration,
		`{"omit":601}`:                    codeOmit,
		`{"burst":1001}`:                  codeBurst,
		`{"reverse":1,"bidirectional":1}`: codeReverseBoth,
		`{"sctp":true}`:                   codeProtocol,
	} {
		_, err := parseParams([]byte(text))
		var e *Error
		if !errors.As(err, &e) || e.Code != code {
			t.Errorf("%s: %v, want code %d (%s)", text, err, code, codeTexts[code])
		}
	}
}

func TestBudget(t *testing.T) {
	for _, c := range []struct {
		p    Params
		want uint64
	}{
		{Params{}, 0}, {Params{Bytes: 5}, 5}, {Params{Blocks: 3, Block: 7}, 21}, {Params{Blocks: huge, Block: 4}, huge}, {Params{Bytes: 1, Blocks: 9, Block: 9}, 1},
	} {
		if got := c.p.budget(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.p, got, c.want)
		}
	}
}

// The results of 3.12's client, and of a server without losses to report.
func TestParseResults(t *testing.T) {
	r, err := parseResults([]byte(`{"cpu_util_total":49.2,"cpu_util_user":5.3,"cpu_util_system":43.9,"sender_has_retransmits":18446744073709551615,"congestion_used":"bbr","server_output_text":"text",
		"streams":[{"id":1,"bytes":1048576,"retransmits":18446744073709551615,"jitter":0.5,"errors":2,"packets":10,"start_time":0,"end_time":1.5},
		           {"id":3,"bytes":7,"retransmits":4,"jitter":0,"errors":5,"omitted_errors":1,"packets":9,"omitted_packets":3}],"more":[{}]}`))
	want := Results{
		CPU: [3]float64{49.2, 5.3, 43.9}, Retransmits: -1, Congestion: "bbr", OutputText: "text",
		Streams: []StreamResults{
			{ID: 1, Bytes: 1 << 20, Retransmits: -1, Jitter: 0.5, Errors: 2, Packets: 10, End: 1.5},
			{ID: 3, Bytes: 7, Retransmits: 4, Errors: 5, OmittedErrors: 1, Packets: 9, OmittedPackets: 3, Omits: true},
		},
	}
	if err != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("%v\n got %+v\nwant %+v", err, r, want)
	}
	text, _ := json.Marshal(r)
	again, err := parseResults(text)
	if err != nil || !reflect.DeepEqual(again, r) {
		t.Errorf("%s: %v\n got %+v\nwant %+v", text, err, again, r)
	}
}

func TestResultsRefused(t *testing.T) {
	const good = `"cpu_util_total":1,"cpu_util_user":1,"cpu_util_system":1,"sender_has_retransmits":1`
	many := strings.TrimSuffix(strings.Repeat(`{"id":1,"bytes":0,"retransmits":0,"jitter":0,"errors":0,"packets":0},`, 257), ",")
	for _, text := range []string{
		``, `{}`, `7`, `{` + good + `}`, `{` + good + `,"streams":null}`, `{` + good + `,"streams":7}`,
		`{"cpu_util_user":1,"cpu_util_system":1,"sender_has_retransmits":1,"streams":[]}`,
		`{` + good + `,"streams":[{"id":1}]}`, `{` + good + `,"streams":[` + many + `]}`,
	} {
		if r, err := parseResults([]byte(text)); err == nil {
			t.Errorf("%.60s: %+v", text, r)
		}
	}
}

func TestReadText(t *testing.T) {
	frame := func(n uint32, text string) io.Reader {
		return bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, n), text...))
	}
	if b, err := readText(frame(2, "{}rest"), 100); err != nil || string(b) != "{}" {
		t.Errorf("%q %v", b, err)
	}
	if b, err := readText(frame(0, ""), 100); err != nil || len(b) != 0 {
		t.Errorf("%q %v", b, err)
	}
	for name, r := range map[string]io.Reader{
		"too long":         frame(101, strings.Repeat(" ", 101)),
		"all ones":         frame(math.MaxUint32, ""),
		"cut short":        frame(10, "{}"),
		"no length":        bytes.NewReader([]byte{0, 0}),
		"nothing":          bytes.NewReader(nil),
		"text as a length": bytes.NewReader([]byte(`{"tcp":true}`)),
	} {
		if b, err := readText(r, 100); err == nil {
			t.Errorf("%s: %q", name, b)
		}
	}
}

func TestStatesAndErrors(t *testing.T) {
	var b bytes.Buffer
	writeState(&b, accessDenied)
	if s, err := readState(&b); s != accessDenied || err != nil || s.String() != "ACCESS_DENIED" {
		t.Errorf("%v %v", s, err)
	}
	if state(77).String() != "state 77" {
		t.Error(state(77))
	}
	writeError(&b, &Error{Code: 6, Errno: 104})
	if s, _ := readState(&b); s != serverError {
		t.Errorf("%v", s)
	}
	e := readError(&b)
	if e.Code != 6 || e.Errno != 104 || !strings.Contains(e.Error(), "parallel streams") || !strings.Contains(e.Error(), "errno 104") {
		t.Errorf("%v", e)
	}
	if e := readError(&b); e.Code != codeServerTerm {
		t.Errorf("cut short: %v", e)
	}
	if (&Error{Code: 999}).Error() != "error 999" {
		t.Error("unknown code")
	}
	inner := io.ErrClosedPipe
	if err := failed(codeCtrlClose, inner); !errors.Is(err, inner) || !strings.HasSuffix(err.Error(), ": "+inner.Error()) {
		t.Error(err)
	}
}

func TestCookie(t *testing.T) {
	a, b := newCookie(), newCookie()
	if a == b || a[36] != 0 || len(a.String()) != 36 || strings.Trim(a.String(), "abcdefghijklmnopqrstuvwxyz234567") != "" {
		t.Errorf("%q %q", a, b)
	}
	if (cookie{'a', 'b', '\n', 'c'}).String() != "ab" {
		t.Error("what is not printable is shown")
	}
}

func TestStreamIDs(t *testing.T) {
	for n, want := range []int{1, 3, 4, 5, 6} {
		if got := streamID(n); got != want {
			t.Errorf("stream %d has id %d, want %d", n, got, want)
		}
	}
}

func FuzzParams(f *testing.F) {
	f.Add([]byte(`{"tcp":true,"omit":0,"time":10,"num":0,"blockcount":0,"parallel":1,"len":131072,"pacing_timer":1000,"client_version":"3.12"}`))
	f.Add([]byte(`{"udp":true,"num":18446744073709551615,"len":-1,"bandwidth":1e308,"parallel":null}`))
	f.Add([]byte(`{"reverse":true,"bidirectional":true,"window":[[[[]]]],"title":"\ud800"}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		p, err := parseParams(text)
		if err != nil {
			var e *Error
			if !errors.As(err, &e) {
				t.Fatalf("%T", err)
			}
			return
		}
		if p.Parallel < 1 || p.Parallel > maxStreams || p.Block < 1 || p.Block > maxBlock || p.Time < 0 || p.Omit < 0 || p.Protocol == UDP && p.Block < minUDPBlock {
			t.Fatalf("out of bounds: %+v", p)
		}
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := parseParams(out)
		// Octets and rates beyond 2^53 lose their last digits; strings their broken runes.
		q.Bytes, q.Blocks, q.Bitrate, q.Title, q.ExtraData, q.Congestion, q.ClientVersion = p.Bytes, p.Blocks, p.Bitrate, p.Title, p.ExtraData, p.Congestion, p.ClientVersion
		q.Time, q.Omit = q.Time.Round(time.Microsecond), q.Omit.Round(time.Microsecond)
		p.Time, p.Omit = p.Time.Round(time.Microsecond), p.Omit.Round(time.Microsecond)
		if err != nil || !reflect.DeepEqual(p, q) {
			t.Fatalf("%v\n%+v\n%+v", err, p, q)
		}
	})
}

func FuzzResults(f *testing.F) {
	f.Add([]byte(`{"cpu_util_total":1,"cpu_util_user":1,"cpu_util_system":1,"sender_has_retransmits":1,"streams":[{"id":1,"bytes":1,"retransmits":0,"jitter":0,"errors":0,"packets":0}]}`))
	f.Add([]byte(`{"cpu_util_total":1e999,"cpu_util_user":-0,"cpu_util_system":null,"sender_has_retransmits":18446744073709551615,"streams":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := parseResults(text)
		if err != nil {
			return
		}
		for _, s := range r.Streams {
			if s.Retransmits < -1 {
				t.Fatalf("%+v", s)
			}
		}
		if _, err := json.Marshal(r); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzReadText(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, b []byte) {
		text, err := readText(bytes.NewReader(b), 1000)
		if err == nil && (len(text) > 1000 || len(text) > len(b)-4) {
			t.Fatalf("%d octets out of %d", len(text), len(b))
		}
	})
}

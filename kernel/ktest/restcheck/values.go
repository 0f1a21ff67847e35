package restcheck

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// value says how an operation is called and what its answer must tell.
type value struct {
	args  map[string]string // parameters
	ctype string            // of the body
	body  []byte
	// status is what it must answer: 200 where 0. guestStatus and hostedStatus are what
	// only a guest, or only a process, answers.
	status, guestStatus, hostedStatus int
	before                            func(c *call) // makes what the call needs
	check                             func(c *call) // looks at the answer, where that is 200
}

// call is one call of an operation.
type call struct {
	k      *checker
	t      *testing.T
	op     *operation
	args   map[string]string
	answer answer
}

// text is the answer as a JSON string.
func (c *call) text() string {
	c.t.Helper()
	var s string
	c.into(&s)
	return s
}

func (c *call) into(v any) {
	c.t.Helper()
	if err := json.Unmarshal(c.answer.body, v); err != nil {
		c.t.Fatalf("%s: %v: %.200s", c.op.OperationID, err, c.answer.body)
	}
}

func (c *call) message() string {
	var e struct{ Message string }
	json.Unmarshal(c.answer.body, &e)
	return e.Message
}

// get asks for something else and decodes it.
func (c *call) get(target string, v any) {
	c.t.Helper()
	a := c.k.get(c.t, target)
	if a.status != 200 {
		c.t.Fatalf("GET %s: status %d: %s", target, a.status, a.body)
	}
	if err := json.Unmarshal(a.body, v); err != nil {
		c.t.Fatalf("GET %s: %v", target, err)
	}
}

func (c *call) mustSend(method, target string) {
	c.t.Helper()
	if a := c.k.send(c.t, method, target); a.status != 200 {
		c.t.Fatalf("%s %s: status %d: %s", method, target, a.status, a.body)
	}
}

func (c *call) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf(c.op.OperationID+": "+format, args...)
}

// matches wants a string that a pattern matches.
func matches(pattern string) func(*call) {
	re := regexp.MustCompile(pattern)
	return func(c *call) {
		if s := c.text(); !re.MatchString(s) {
			c.errorf("%.200q does not match %s", s, pattern)
		}
	}
}

// has wants bytes in the answer.
func has(parts ...string) func(*call) {
	return func(c *call) {
		for _, p := range parts {
			if !bytes.Contains(c.answer.body, []byte(p)) {
				c.errorf("no %q in %.300q", p, c.answer.body)
			}
		}
	}
}

// starts wants the answer to begin with bytes.
func starts(prefix string) func(*call) {
	return func(c *call) {
		if !bytes.HasPrefix(c.answer.body, []byte(prefix)) {
			c.errorf("begins with %.20q, want %q", c.answer.body, prefix)
		}
	}
}

// above wants a number larger than n.
func above(n float64) func(*call) {
	return func(c *call) {
		var v float64
		c.into(&v)
		if v <= n {
			c.errorf("%v, want more than %v", v, n)
		}
	}
}

const gzipMagic = "\x1f\x8b"

// values has all operations of the document.
var values = map[string]value{
	"os_name":           {check: matches(`^OSv$`)},
	"os_version":        {check: matches(`^v0\.\d+`)},
	"os_vendor":         {check: matches(`OSv`)},
	"os_manufacturer":   {check: matches(`OSv`)},
	"os_uptime":         {check: above(-1)},
	"os_date":           {check: checkDate},
	"os_memory":         {check: checkMemory},
	"os_memory_total":   {check: above(16 << 20)},
	"os_memory_free":    {check: above(1 << 20)},
	"os_memory_balloon": {check: above(-1)},
	"os_threads":        {check: checkThreads},
	"os_dmesg":          {check: checkDmesg},
	"os_get_hostname":   {check: matches(`^[A-Za-z0-9.-]+$`)},
	"os_set_hostname": {args: map[string]string{"name": "renamed.example"}, check: func(c *call) {
		var now string
		if c.get("/os/hostname", &now); now != "renamed.example" {
			c.errorf("the name is %q", now)
		}
	}},
	"os_get_cmdline": {check: func(c *call) {
		if s := c.text(); c.k.Token != "" && strings.Contains(s, c.k.Token) {
			c.errorf("%q tells the token", s)
		}
	}},
	"os_set_cmdline": {args: map[string]string{"cmdline": "--verbose --rest"}, status: 503},
	"os_shutdown":    {},
	"os_poweroff":    {},
	"os_reboot":      {hostedStatus: 503},

	"processorFeatures": {check: matches(`\b(sse2|fp)\b`)},
	"processorCount":    {check: above(0)},
	"processors": {check: func(c *call) {
		var l []struct {
			ID     int64
			BusyMS int64 `json:"busy_ms"`
			IdleMS int64 `json:"idle_ms"`
		}
		c.into(&l)
		if len(l) == 0 || l[0].BusyMS+l[0].IdleMS <= 0 {
			c.errorf("%+v", l)
		}
	}},
	"firmware_vendor": {before: tolerate(503), check: matches(`.`)},
	"hypervisor_name": {check: matches(`.`)},
	"hardware_disks":  {check: starts(`[`)},

	"listIfconfig": {check: checkInterfaces},
	"getIfconfig":  {before: firstInterface, check: has(`"ifi_ipackets":`)},
	"getRoute":     {check: starts(`[`)},

	"list_df_stats": {before: tolerate(503), check: has(`"mount":`)},
	"getDFStats":    {before: mountOrTolerate, check: has(`"blocksize":`)},

	"getFile": {before: needFile, args: map[string]string{"path-par": checkFile, "op": "GET"}, check: func(c *call) {
		if string(c.answer.body) != fileText {
			c.errorf("%.100q", c.answer.body)
		}
	}},
	"putFile": {before: tolerateNoFiles, args: map[string]string{"path-par": "restcheck/put/deep", "op": "MKDIRS"}, check: checkPut},
	"upload": {before: tolerateNoFiles, args: map[string]string{"path-par": "restcheck-upload"}, ctype: "application/octet-stream", body: []byte("\x00uploaded\xff"), check: func(c *call) {
		if a := c.k.get(c.t, "/file/restcheck-upload?op=GET"); string(a.body) != "\x00uploaded\xff" {
			c.errorf("reads %q", a.body)
		}
	}},
	"delFile": {before: needFile, args: map[string]string{"path-par": checkFile, "op": "DELETE"}, check: func(c *call) {
		if a := c.k.get(c.t, "/file/"+checkFile+"?op=GETFILESTATUS"); a.status != 404 {
			c.errorf("the file is still there: %d", a.status)
		}
	}},

	"list_env": {before: setVariable, check: has(`"RESTCHECK=a value"`)},
	"getEnv":   {before: setVariable, args: map[string]string{"var": "RESTCHECK"}, check: matches(`^a value$`)},
	"setEnv": {args: map[string]string{"var": "RESTCHECK2", "val": "é=ü"}, check: func(c *call) {
		var v string
		if c.get("/env/RESTCHECK2", &v); v != "é=ü" {
			c.errorf("is %q", v)
		}
	}},
	"unsetEnv": {before: setVariable, args: map[string]string{"var": "RESTCHECK"}, check: func(c *call) {
		if a := c.k.get(c.t, "/env/RESTCHECK"); a.status != 400 {
			c.errorf("is still set: %d %s", a.status, a.body)
		}
	}},

	"getTraceEventStatus":       {args: map[string]string{"match": `^rest\.`}, check: has(`"name":"rest.refused"`)},
	"setTraceEventStatus":       {args: map[string]string{"match": `^rest\.refused$`, "enabled": "true"}, check: has(`"enabled":true`)},
	"getSingleTraceEventStatus": {args: map[string]string{"eventid": "rest.refused"}, check: has(`"id":"rest.refused"`)},
	"setSingleTraceEventStatus": {args: map[string]string{"eventid": "rest.refused", "enabled": "true", "backtrace": "false"}, check: has(`"enabled":true`)},
	"setCountEvent":             {args: map[string]string{"eventid": "rest.refused", "enabled": "true"}, check: checkCounts},
	"getCounts":                 {before: countRefused, check: has(`"name":"rest.refused"`)},
	"deleteCounts": {before: countRefused, check: func(c *call) {
		var v struct{ List []any }
		if c.get("/trace/count", &v); len(v.List) != 0 {
			c.errorf("%v is left", v.List)
		}
	}},
	"setSamplerState": {args: map[string]string{"freq": "100"}, check: func(c *call) {
		if s := c.text(); s != "Sampler started successfully" {
			c.errorf("%q", s)
		}
		c.mustSend("POST", "/trace/sampler?freq=0")
	}},
	"getSampler": {before: func(c *call) {
		c.mustSend("POST", "/trace/sampler?freq=100")
		c.mustSend("POST", "/trace/sampler?freq=0")
	}, check: starts(gzipMagic)},
	"getTraceBuffers": {before: func(c *call) {
		c.mustSend("POST", "/trace/event/rest.refused?enabled=true")
		c.k.send(c.t, "GET", "/no/such/path")
	}, args: map[string]string{"limit": "65536"}, check: has(`"name":"rest.refused"`, `"text":"status 404"`)},

	"run_app":      {before: tolerate(503), args: map[string]string{"command": "echo restcheck"}, check: matches(`^\d+$`)},
	"finished_app": {before: tolerate(503), args: map[string]string{"tid": "999999"}, check: matches(`^true$`)},

	"api_batch": {ctype: "application/json", body: []byte(`[{"method":"GET","relative_url":"/os/name"},{"method":"GET","relative_url":"/no/such"}]`), check: has(`[{"code":200,"body":"OSv"},{"code":404,`)},
	"stop_api":  {},

	"getJavaVersion":  {status: 503},
	"getGCinfo":       {status: 503},
	"forceGC":         {status: 503},
	"getMbeanList":    {status: 503},
	"getMbean":        {args: map[string]string{"mbean": "java.lang:type=Memory"}, status: 503},
	"setMbean":        {args: map[string]string{"mbean": "java.lang:type=Memory", "attribute": "Verbose", "value": "true"}, status: 503},
	"jolokia_version": {status: 503},
	"jolokia_post":    {ctype: "application/json", body: []byte(`{}`), status: 503},
	"jolokia_get":     {args: map[string]string{"query": "read/java.lang:type=Memory"}, status: 503},

	"swagger_resources":   {check: has(`"swaggerVersion":"1.2"`, `"path":"/os"`)},
	"swagger_declaration": {args: map[string]string{"resource": "os"}, check: has(`"nickname":"os_version"`, `"path":"/os/threads"`, `"resourcePath":"/os"`)},
	"openapi":             {check: has(`"openapi": "3.0.3"`)},
	"metrics":             {check: has("\nosv_uptime_seconds ", "\nosv_cpu_seconds_total{cpu=\"0\",mode=\"idle\"} ", "# TYPE osv_http_requests_total counter\n")},
	"pprof_index":         {check: has("goroutine", "heap")},
	"pprof_profile":       {args: map[string]string{"profile": "goroutine", "debug": "1"}, check: has("net/http.(*conn).serve")},

	"ui_swagger":   {check: has("<title>", "/ui/swagger-ui-bundle.js")},
	"ui_dashboard": {check: has("<title>", "/ui/dashboard.js")},
	"ui_asset":     {args: map[string]string{"asset": "swagger-ui-bundle.js"}, check: has("SwaggerUIBundle")},
	"ui_favicon":   {check: starts("\x89PNG")},
}

const (
	checkFile = "restcheck-file"
	fileText  = "what restcheck wrote\n"
)

// tolerate leaves a call out where the machine answers it with a status and a reason.
func tolerate(status int) func(*call) {
	return func(c *call) {
		if a := c.k.send(c.t, c.op.method, c.op.target(c.args)); a.status == status {
			if err := c.k.shape(c.op, a); err != nil {
				c.errorf("%v", err)
			}
			c.answer = a
			if len(c.message()) < 10 {
				c.errorf("no reason: %s", a.body)
			}
			c.t.Skipf("not on this machine: %s", c.message())
		}
	}
}

func tolerateNoFiles(c *call) {
	if a := c.k.get(c.t, "/file/?op=LISTSTATUS"); a.status == 503 {
		c.t.Skipf("no files: %s", a.body)
	}
}

func needFile(c *call) {
	tolerateNoFiles(c)
	c.mustSend("PUT", "/file/"+checkFile+"?op=WRITE&overwrite=true&content="+strings.ReplaceAll(strings.TrimSpace(fileText), " ", "+")+"%0a")
}

func setVariable(c *call) { c.mustSend("POST", "/env/RESTCHECK?val=a+value") }

func countRefused(c *call) {
	c.mustSend("POST", "/trace/count/rest.refused?enabled=true")
	c.k.send(c.t, "GET", "/no/such/path")
}

func firstInterface(c *call) {
	var l []struct{ Config struct{ Name string } }
	c.get("/network/ifconfig", &l)
	c.args["intf"] = l[0].Config.Name
}

func mountOrTolerate(c *call) {
	a := c.k.get(c.t, "/fs/df")
	if a.status == 503 {
		c.t.Skipf("no file systems: %s", a.body)
	}
	var l []struct{ Mount string }
	if err := json.Unmarshal(a.body, &l); err != nil || len(l) == 0 {
		c.t.Fatalf("%v: %s", err, a.body)
	}
	c.args["mount"] = l[0].Mount
}

func checkDate(c *call) {
	at, err := time.Parse(time.UnixDate, c.text())
	if err != nil {
		c.errorf("%v", err)
	}
	if d := time.Since(at).Abs(); d > 24*time.Hour {
		c.errorf("%v is %v away", at, d)
	}
}

func checkMemory(c *call) {
	var m struct{ Total, Free, Heap, Runtime uint64 }
	c.into(&m)
	if m.Total < 16<<20 || m.Free == 0 || m.Free >= m.Total || m.Heap == 0 || m.Runtime < m.Heap || m.Runtime > m.Total {
		c.errorf("%+v", m)
	}
}

func checkThreads(c *call) {
	var v struct {
		TimeMS int64 `json:"time_ms"`
		List   []struct {
			ID                                int64
			Name, Status                      string
			CPU                               *int64
			CPUms                             *int64 `json:"cpu_ms"`
			CPUns                             *int64 `json:"cpu_ns"`
			Switches, Preemptions, Migrations *uint64
			WaitsFor                          string `json:"waits_for"`
		}
		Goroutines []struct{ Function, State string }
		Count      int `json:"goroutine_count"`
	}
	c.into(&v)
	switches := uint64(0)
	for _, t := range v.List {
		if t.CPUms == nil {
			c.errorf("%s: no processor time", t.Name)
		}
		if t.Switches != nil {
			switches += *t.Switches
		}
	}
	if len(v.List) == 0 || switches == 0 || v.Count < 2 || v.TimeMS == 0 {
		c.errorf("%d threads, %d switches, %d goroutines, time %d", len(v.List), switches, v.Count, v.TimeMS)
	}
	if c.k.Guest {
		var cpus []struct {
			Busy int64 `json:"busy_ms"`
			Idle int64 `json:"idle_ms"`
		}
		c.get("/hardware/processors", &cpus)
		all := int64(0)
		for _, p := range cpus {
			all += p.Busy + p.Idle
		}
		idle, running, sum := 0, 0, int64(0)
		for _, t := range v.List {
			if t.CPU == nil || t.CPUns == nil || *t.CPUns/1e6 != *t.CPUms || t.Switches == nil || t.Preemptions == nil || t.Migrations == nil || (t.Status == "waiting") == (t.WaitsFor == "") && !strings.HasPrefix(t.Name, "idle") {
				c.errorf("%+v", t)
				continue
			}
			if t.Name == fmt.Sprintf("idle%d", *t.CPU) {
				idle++
			}
			if t.Status == "running" {
				running++
			}
			sum += *t.CPUms
		}
		// All time of all processors since they began is some thread's; between the two
		// questions the machine may have stood still for a while.
		if idle != len(cpus) || running < 1 || v.List[0].Name != "main" || sum > all || sum < all*3/4-2000 {
			c.errorf("%d idle and %d running threads on %d processors, %d ms of %d, first %+v", idle, running, len(cpus), sum, all, v.List[0])
		}
	}
	for _, g := range v.Goroutines {
		if g.Function == "net/http.(*conn).serve" {
			return
		}
	}
	c.errorf("no goroutine serves this request: %.500s", c.answer.body)
}

func checkDmesg(c *call) {
	s := c.text()
	if c.k.Guest && len(s) == 0 {
		c.errorf("empty")
	}
	if c.k.Token != "" && strings.Contains(s, c.k.Token) {
		c.errorf("tells the token")
	}
	h := c.k.auth()
	h.Set("Accept", "text/plain")
	if a := c.k.do(c.t, "GET", "/os/dmesg", h, nil); a.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		c.errorf("as text: type %s", a.header.Get("Content-Type"))
	}
}

func checkInterfaces(c *call) {
	var l []struct {
		Config struct{ Name, Addr, MTU string }
		Data   struct {
			IPackets uint64            `json:"ifi_ipackets"`
			Wakes    map[string]uint64 `json:"ifi_iwakeup_stats"`
		}
		Channels *struct{ Fast, Slow uint64 }
	}
	c.into(&l)
	packets, channels, wakes := uint64(0), uint64(0), uint64(0)
	for _, i := range l {
		packets += i.Data.IPackets
		for _, n := range i.Data.Wakes {
			wakes += n
		}
		if i.Channels != nil {
			channels += i.Channels.Fast + i.Channels.Slow
		}
	}
	if packets == 0 {
		c.errorf("no interface has received anything: %.300s", c.answer.body)
	}
	if c.k.Guest && (channels == 0 || wakes == 0 || wakes > packets) {
		c.errorf("%d frames went into a channel, %d woke a receive loop: %.300s", channels, wakes, c.answer.body)
	}
}

// checkPut follows a file through all that PUT can do.
func checkPut(c *call) {
	const dir = "/file/restcheck/put/deep"
	c.mustSend("PUT", dir+"/a?op=WRITE&content=one&permission=600")
	c.mustSend("PUT", dir+"/a?op=WRITE&content=two")
	c.mustSend("PUT", dir+"/a?op=COPY&destination=/restcheck/put/deep/b")
	c.mustSend("PUT", dir+"/a?op=RENAME&destination=/restcheck/new/c&createParent=true")
	if a := c.k.send(c.t, "PUT", dir+"/b?op=COPY&destination=/restcheck/new/c&overwrite=false"); a.status != 409 {
		c.errorf("a copy over a file, overwrite=false: %d", a.status)
	}
	var st struct {
		Length     int64
		Type       string
		Permission string
		Suffix     string `json:"pathSuffix"`
	}
	if c.get("/file/restcheck/new/c?op=GETFILESTATUS", &st); st.Length != 6 || st.Type != "FILE" || st.Permission != "600" || st.Suffix != "c" {
		c.errorf("status of c: %+v", st)
	}
	if a := c.k.get(c.t, "/file/restcheck/new/c?op=GET&offset=1&length=3"); string(a.body) != "net" {
		c.errorf("3 bytes from 1: %q", a.body)
	}
	var l []struct {
		Suffix string `json:"pathSuffix"`
		Type   string
	}
	if c.get("/file/restcheck?op=LISTSTATUS", &l); len(l) != 2 || l[0].Suffix != "new" || l[0].Type != "DIRECTORY" {
		c.errorf("list: %+v", l)
	}
	if c.get("/file/rest%3Fheck/*/*?op=LISTSTATUS", &l); len(l) != 2 {
		c.errorf("pattern: %+v", l)
	}
	if a := c.k.send(c.t, "DELETE", "/file/restcheck?op=DELETE"); a.status != 409 {
		c.errorf("a full directory deleted: %d %s", a.status, a.body)
	}
	c.mustSend("DELETE", "/file/restcheck?op=DELETE&recursive=true")
}

// checkCounts counts an event that this call makes.
func checkCounts(c *call) {
	c.k.send(c.t, "GET", "/no/such/path")
	var v struct {
		List []struct {
			Name  string
			Count uint64
		}
	}
	c.get("/trace/count", &v)
	if len(v.List) != 1 || v.List[0].Name != "rest.refused" || v.List[0].Count == 0 {
		c.errorf("%+v", v.List)
	}
}

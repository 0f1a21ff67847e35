package rest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"
)

// browser is a headless Chromium that is driven by its DevTools protocol and can reach
// this host only.
type browser struct {
	t      *testing.T
	ws     *websocket.Conn
	id     int
	errors []string // what its console complained of
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil || testing.Short() {
		t.Skip("no chromium, or -short")
	}
	dir, err := os.MkdirTemp("", "browser-") // its processes may write after the first has ended
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	cmd := exec.CommandContext(t.Context(), path, "--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run", "--remote-debugging-port=0", "--remote-allow-origins=*",
		"--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1", "--user-data-dir="+dir, "about:blank")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	var port string
	for end := time.Now().Add(60 * time.Second); port == ""; time.Sleep(20 * time.Millisecond) {
		b, _ := os.ReadFile(filepath.Join(dir, "DevToolsActivePort"))
		port, _, _ = strings.Cut(string(b), "\n")
		if time.Now().After(end) {
			t.Fatal("chromium does not start")
		}
	}
	r, err := http.Get("http://127.0.0.1:" + port + "/json/list")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var pages []struct{ Type, WebSocketDebuggerURL string }
	if err := json.NewDecoder(r.Body).Decode(&pages); err != nil {
		t.Fatal(err)
	}
	b := &browser{t: t}
	for _, p := range pages {
		if p.Type == "page" {
			if b.ws, err = websocket.Dial(p.WebSocketDebuggerURL, "", "http://127.0.0.1/"); err != nil {
				t.Fatal(err)
			}
		}
	}
	if b.ws == nil {
		t.Fatal("chromium has no page")
	}
	t.Cleanup(func() { b.ws.Close() })
	b.call("Runtime.enable", nil)
	b.call("Log.enable", nil)
	b.call("Page.enable", nil)
	return b
}

// call calls a method and returns its result. Events that come meanwhile are looked at.
func (b *browser) call(method string, params any) json.RawMessage {
	b.t.Helper()
	b.id++
	if err := websocket.JSON.Send(b.ws, map[string]any{"id": b.id, "method": method, "params": params}); err != nil {
		b.t.Fatal(err)
	}
	b.ws.SetReadDeadline(time.Now().Add(60 * time.Second))
	for {
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			Result json.RawMessage
			Error  *struct{ Message string }
		}
		if err := websocket.JSON.Receive(b.ws, &m); err != nil {
			b.t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.ID == b.id && m.Error != nil:
			b.t.Fatalf("%s: %s", method, m.Error.Message)
		case m.ID == b.id:
			return m.Result
		case m.Method == "Runtime.exceptionThrown", m.Method == "Log.entryAdded" && strings.Contains(string(m.Params), `"level":"error"`),
			m.Method == "Runtime.consoleAPICalled" && strings.Contains(string(m.Params), `"type":"error"`):
			b.errors = append(b.errors, string(m.Params))
		}
	}
}

// eval evaluates an expression on the page, as a string.
func (b *browser) eval(expr string) string {
	b.t.Helper()
	var r struct {
		Result           struct{ Value any }
		ExceptionDetails json.RawMessage
	}
	if err := json.Unmarshal(b.call("Runtime.evaluate", map[string]any{"expression": expr, "returnByValue": true}), &r); err != nil {
		b.t.Fatal(err)
	}
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expr, r.ExceptionDetails)
	}
	return fmt.Sprint(r.Result.Value)
}

// until evaluates an expression until it is want.
func (b *browser) until(expr, want string) {
	b.t.Helper()
	got := ""
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got = b.eval(expr); got == want {
			return
		}
	}
	b.t.Fatalf("%s is %q, want %q; console: %s", expr, got, want, b.errors)
}

// open shows a page in a window of some width.
func (b *browser) open(url string, width int, scheme string) {
	b.t.Helper()
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600})
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}})
	b.call("Page.navigate", map[string]any{"url": "about:blank"})
	b.call("Page.navigate", map[string]any{"url": url})
	b.until("document.readyState", "complete")
}

// clean reports what the console complained of, and a page wider than its window.
func (b *browser) clean(what string) {
	b.t.Helper()
	for _, e := range b.errors {
		b.t.Errorf("%s: console: %s", what, e)
	}
	b.errors = nil
	if over := b.eval("document.documentElement.scrollWidth - document.documentElement.clientWidth"); over != "0" {
		b.t.Errorf("%s: the page is %s pixels wider than its window", what, over)
	}
}

// Both pages load at the widths of a phone and of a desktop, light and dark, and work,
// with nothing but this server to be reached.
func TestBrowser(t *testing.T) {
	s := serve(t, testConfig(t))
	b := newBrowser(t)
	for _, width := range []int{360, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			what := fmt.Sprintf("dashboard, %d pixels, %s", width, scheme)
			b.open(s.url+"/dashboard", width, scheme)
			b.until(`document.querySelectorAll("#cpus .row").length > 0 && document.querySelectorAll("#threads tr").length > 0 && document.querySelectorAll("#points button").length > 0`, "true")
			b.until(`(document.querySelector("#cpu-spark .line")?.getAttribute("d") ?? "") !== ""`, "true") // two rounds and more
			b.clean(what)
		}
		b.open(s.url+"/#/os/os_version", width, "light")
		b.until(`document.querySelectorAll(".opblock-tag").length > 10`, "true")
		b.until(`!!document.querySelector("#operations-os-os_version .try-out__btn")`, "true")
		b.eval(`document.querySelector("#operations-os-os_version .try-out__btn").click()`)
		b.until(`!!document.querySelector("#operations-os-os_version .execute")`, "true")
		b.eval(`document.querySelector("#operations-os-os_version .execute").click()`)
		b.until(`(document.querySelector("#operations-os-os_version .live-responses-table tbody .response-col_status") || {innerText: ""}).innerText.trim()`, "200")
		b.clean(fmt.Sprintf("API, %d pixels", width))
	}
	// A tracepoint is switched on from the dashboard, with the token and without.
	b.open(s.url+"/dashboard", 1280, "light")
	const button = `[...document.querySelectorAll("#points button")].find(b => b.textContent === "rest.refused")`
	b.until("!!"+button, "true")
	b.eval(button + ".click()")
	b.until(`document.getElementById("tra-error").textContent.includes("token")`, "true")
	b.errors = nil // the browser tells of the status 401
	b.eval(`document.getElementById("token").value = "` + testToken + `"`)
	b.eval(button + ".click()")
	b.until(button+`.getAttribute("aria-pressed")`, "true")
	if r, err := http.Get(s.url + "/no/such"); err == nil {
		r.Body.Close()
	}
	b.until(`document.getElementById("events").textContent.includes("rest.refused  status 404")`, "true")
	b.clean("dashboard with a token")
	if dir := os.Getenv("OSV_SCREENSHOTS"); dir != "" {
		b.screenshots(s.url, dir)
	}
}

// screenshots keeps pictures of the pages for people to look at.
func (b *browser) screenshots(url, dir string) {
	for _, width := range []int{360, 1280} {
		for _, scheme := range []string{"light", "dark"} {
			for name, path := range map[string]string{"dashboard": "/dashboard", "api": "/#/os/os_memory"} {
				b.open(url+path, width, scheme)
				time.Sleep(4 * time.Second) // for the curves
				var shot struct{ Data []byte }
				if err := json.Unmarshal(b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}), &shot); err != nil {
					b.t.Fatal(err)
				}
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%s-%d-%s.png", name, width, scheme)), shot.Data, 0o644); err != nil {
					b.t.Fatal(err)
				}
			}
		}
	}
}

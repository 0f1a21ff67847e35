package report

import (
	"bytes"
	"fmt"
	"html/template"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

var indexPage = template.Must(template.New("index").Parse(`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Benchmark runs</title>
<link rel="icon" href="data:,">
<style>
:root { --ink:#1F2328; --muted:#57606A; --paper:#FFFFFF; --line:#D0D7DE; --link:#0072B2; }
@media (prefers-color-scheme: dark) { :root { --ink:#E6EDF3; --muted:#A3ADB8; --paper:#0D1117; --line:#30363D; --link:#58B2E8; } }
* { box-sizing:border-box; }
body { margin:0; background:var(--paper); color:var(--ink); font:16px/1.5 system-ui,-apple-system,"Segoe UI","Liberation Sans",Arial,sans-serif; }
main { max-width:60rem; margin:0 auto; padding:1.25rem 1rem 4rem; }
h1 { font-size:1.6rem; }
article { border-top:1px solid var(--line); padding:1rem 0; }
h2 { font-size:1.15rem; margin:0 0 .25rem; }
p { margin:.25rem 0; } .muted { color:var(--muted); font-size:.9rem; }
a { color:var(--link); }
img { max-width:100%; height:auto; border:1px solid var(--line); border-radius:6px; margin-top:.5rem; background:#fff; }
</style>
</head>
<body>
<main>
<h1>Benchmark runs</h1>
<p class="muted">Newest first. Each report works by itself, offline, and can be checked with <code>bench verify</code>.</p>
{{range .}}<article>
<h2><a href="{{.Dir}}/report.html">{{.Name}}</a></h2>
<p>{{.Finding}}</p>
<p class="muted">{{.When}} · {{.Systems}} · {{.Boots}} boots a side · accelerator: {{.Accel}} · commit {{.Commit}}</p>
{{if .Chart}}<a href="{{.Dir}}/report.html"><img src="{{.Dir}}/{{.Chart}}" alt="{{.Finding}}" loading="lazy"></a>{{end}}
</article>
{{else}}<p>No runs.</p>
{{end}}</main>
</body>
</html>
`))

type siteRun struct {
	Dir, Name, Finding, When, Systems, Accel, Commit, Chart string
	Boots                                                   int
}

// Publish makes a site of results folders: each verified and copied whole, and
// an index over them, newest first. A folder that does not verify is an error.
func Publish(dirs []string, site string) error {
	tmp := site + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	defer os.RemoveAll(tmp)
	type dated struct {
		siteRun
		unix int64
	}
	var runs []dated
	names := map[string]bool{}
	for _, dir := range dirs {
		problems, err := Verify(dir)
		if err != nil {
			return err
		}
		if len(problems) > 0 {
			return fmt.Errorf("report: %s does not verify: %s", dir, problems[0])
		}
		d, err := Load(dir)
		if err != nil {
			return err
		}
		base := filepath.Base(filepath.Clean(dir))
		if names[base] {
			return fmt.Errorf("report: two folders are called %s", base)
		}
		names[base] = true
		if err := copyTree(dir, filepath.Join(tmp, base)); err != nil {
			return err
		}
		r := dated{unix: d.Meta.Started.Unix()}
		r.Dir, r.Name, r.Boots, r.Accel, r.Commit = base, base, d.Plan.Boots, d.accelText(), firstOf(d.Meta.Commit, "unknown")
		r.When = d.Meta.Started.UTC().Format("2006-01-02 15:04 UTC")
		var systems []string
		for _, s := range d.Plan.Systems {
			systems = append(systems, s.Title)
		}
		r.Systems = strings.Join(systems, ", ")
		charts, err := d.Charts(d.Summarize())
		if err != nil {
			return err
		}
		if len(charts) > 0 {
			r.Finding, r.Chart = charts[0].Title, chartsDir+"/"+charts[0].Name+".png"
		}
		runs = append(runs, r)
	}
	slices.SortStableFunc(runs, func(a, b dated) int { return int(b.unix - a.unix) })
	list := make([]siteRun, len(runs))
	for i, r := range runs {
		list[i] = r.siteRun
	}
	var b bytes.Buffer
	if err := indexPage.Execute(&b, list); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.WriteFile(filepath.Join(tmp, "index.html"), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.RemoveAll(site); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	if err := os.Rename(tmp, site); err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return nil
}

func copyTree(from, to string) error {
	err := filepath.WalkDir(from, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		dst := filepath.Join(to, rel)
		if e.IsDir() {
			return os.MkdirAll(dst, 0o755)
		}
		in, err := os.Open(path)
		if err != nil {
			return err
		}
		defer in.Close()
		out, err := os.Create(dst)
		if err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			out.Close()
			return err
		}
		return out.Close()
	})
	if err != nil {
		return fmt.Errorf("report: copy %s: %w", from, err)
	}
	return nil
}

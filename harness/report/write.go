package report

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"osv/harness/plot"
)

// drawn is a chart with its two pictures.
type drawn struct {
	plot.Chart
	svg, png []byte
}

// drawPNG rasterises a chart; tests that do not look at pictures replace it,
// since most of a report's time goes there.
var drawPNG = plot.Chart.PNG

// Outputs are the files of a report that follow from the raw data, by name
// relative to the results folder.
type Outputs map[string][]byte

// Render makes every output from the raw data. It fails when the linter objects
// to what the report would say.
func (d *Data) Render() (Outputs, Summary, error) {
	s := d.Summarize()
	charts, err := d.Charts(s)
	if err != nil {
		return nil, s, err
	}
	out := Outputs{}
	emulated := !d.Hardware()
	var objections []string
	var all []drawn
	for _, c := range charts {
		objections = append(objections, LintTitle(c.Title, emulated)...)
		x := drawn{Chart: c}
		if x.svg, err = c.SVG(); err != nil {
			return nil, s, err
		}
		if x.png, err = drawPNG(c); err != nil {
			return nil, s, err
		}
		out[chartsDir+"/"+c.Name+".svg"], out[chartsDir+"/"+c.Name+".png"] = x.svg, x.png
		all = append(all, x)
	}
	claims := d.Claims(s)
	objections = append(objections, Lint(claims, emulated)...)
	if len(objections) > 0 {
		return nil, s, fmt.Errorf("report: the claim linter objects: %s", strings.Join(objections, "; "))
	}
	out[claimsFile] = []byte(claims)
	j, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return nil, s, fmt.Errorf("report: %w", err)
	}
	out[summaryFile] = append(j, '\n')
	if out[htmlFile], err = d.html(all, claims); err != nil {
		return nil, s, err
	}
	return out, s, nil
}

// Write makes the report of a results folder: outputs, then the manifest of
// hashes over everything in it.
func Write(dir string) (Summary, error) {
	d, err := Load(dir)
	if err != nil {
		return Summary{}, err
	}
	out, s, err := d.Render()
	if err != nil {
		return s, err
	}
	// Charts of an earlier report that no longer exist must not stay.
	if err := os.RemoveAll(filepath.Join(dir, chartsDir)); err != nil {
		return s, fmt.Errorf("report: %w", err)
	}
	for _, name := range out.names() {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return s, fmt.Errorf("report: %w", err)
		}
		if err := os.WriteFile(path, out[name], 0o644); err != nil {
			return s, fmt.Errorf("report: %w", err)
		}
	}
	m, err := manifest(dir)
	if err != nil {
		return s, err
	}
	if err := os.WriteFile(filepath.Join(dir, manifestFile), m, 0o644); err != nil {
		return s, fmt.Errorf("report: %w", err)
	}
	return s, nil
}

func (o Outputs) names() []string {
	var n []string
	for k := range o {
		n = append(n, k)
	}
	slices.Sort(n)
	return n
}

// manifest lists the SHA-256 of every file, in the format of sha256sum.
func manifest(dir string) ([]byte, error) {
	var b bytes.Buffer
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		if e.IsDir() || rel == manifestFile {
			return nil
		}
		if !e.Type().IsRegular() {
			return fmt.Errorf("%s is not a regular file", rel)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		fmt.Fprintf(&b, "%s  %s\n", hex.EncodeToString(sum[:]), filepath.ToSlash(rel))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("report: manifest: %w", err)
	}
	return b.Bytes(), nil
}

// Verify checks a results folder: every file has the hash of the manifest and
// none is missing or added; the percentiles in the journal are those of the
// histograms; every output drawn again from the raw data is the same to the
// byte. It returns what is wrong, nothing when all is well.
func Verify(dir string) ([]string, error) {
	want, err := os.ReadFile(filepath.Join(dir, manifestFile))
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	got, err := manifest(dir)
	if err != nil {
		return nil, err
	}
	problems := diffManifests(string(want), string(got))
	if len(problems) > 0 {
		return problems, nil // what follows from damaged data says nothing more
	}
	d, err := Load(dir)
	if err != nil {
		return nil, err
	}
	for _, s := range d.Samples {
		if s.HDR == "" {
			continue
		}
		h, err := d.histogram(s.HDR)
		if err != nil {
			problems = append(problems, err.Error())
			continue
		}
		if a, b := h.ValueAtQuantile(99), s.Result.Latency.P99; a != b || h.TotalCount() != s.Result.Latency.Count {
			problems = append(problems, fmt.Sprintf("%s: p99 %d ns of %d requests, the journal says %d ns of %d", s.HDR, a, h.TotalCount(), b, s.Result.Latency.Count))
		}
	}
	out, _, err := d.Render()
	if err != nil {
		return nil, err
	}
	for _, name := range out.names() {
		have, err := os.ReadFile(filepath.Join(dir, name))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			problems = append(problems, name+": missing; the raw data gives it")
		case err != nil:
			return nil, fmt.Errorf("report: %w", err)
		case !bytes.Equal(have, out[name]):
			problems = append(problems, name+": drawn again from the raw data it is another file")
		}
	}
	charts, err := os.ReadDir(filepath.Join(dir, chartsDir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("report: %w", err)
	}
	for _, e := range charts {
		if name := chartsDir + "/" + e.Name(); out[name] == nil {
			problems = append(problems, name+": the raw data gives no such chart")
		}
	}
	return problems, nil
}

func diffManifests(want, got string) []string {
	parse := func(s string) map[string]string {
		m := map[string]string{}
		for _, l := range strings.Split(s, "\n") {
			if sum, name, ok := strings.Cut(l, "  "); ok {
				m[name] = sum
			}
		}
		return m
	}
	w, g := parse(want), parse(got)
	var out []string
	for name, sum := range w {
		switch {
		case g[name] == "":
			out = append(out, name+": missing")
		case g[name] != sum:
			out = append(out, name+": changed since the report was made")
		}
	}
	for name := range g {
		if w[name] == "" {
			out = append(out, name+": not in the manifest")
		}
	}
	slices.Sort(out)
	return out
}

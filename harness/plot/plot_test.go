package plot

import (
	"bytes"
	"encoding/xml"
	"errors"
	"image"
	"image/color"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gonum.org/v1/plot/vg"
)

func sampleNamed(name string) Chart {
	for _, c := range samples() {
		if c.Name == name {
			return c
		}
	}
	panic(name)
}

// awkward are charts at the edges: nothing, one point, long words, equal values.
func awkward() []Chart {
	long := strings.Repeat("a long finding about many things ", 6)
	one := []Series{{Label: "only", Look: LookOurs, Points: []Point{{X: 5, Y: 7}}}}
	return []Chart{
		Curve(Chart{Name: "empty"}, nil, CurveOptions{}),
		Curve(Chart{Name: "one", Title: "one"}, one, CurveOptions{LogX: true, LogY: true}),
		Curve(Chart{Name: "flat", Title: "flat"}, []Series{{Label: "flat", Look: LookVariant, Points: []Point{{X: 1, Y: 0}, {X: 2, Y: 0}}}}, CurveOptions{YFromZero: true}),
		Rows(Chart{Name: "norows"}, nil, RowOptions{Bars: true}),
		Rows(Chart{Name: "long", Title: long, Subtitle: long, Footer: long, Mark: strings.Repeat("NOT MEASURED ", 5)},
			[]Row{{Group: "g", Label: "a system with a long name, variant nine", Look: Look(99), Mid: 123456789, Text: "123,456,789 requests per second"}}, RowOptions{Bars: true, XTitle: "x"}),
		NoiseRows(Chart{Name: "wide", Title: "t"}, []Row{{Label: long, Mid: 1.02, Lo: 0.9, Hi: 1.2, Text: long}, {Label: "short", Mid: 1, Lo: 0.99, Hi: 1.01, Text: "x"}}, 0.1),
		RatioRows(Chart{Name: "ones"}, []Row{{Label: "same", Mid: 1, Lo: 1, Hi: 1}}, "ratio"),
		PercentileCurve(Chart{Name: "top"}, []Series{{Label: "x", Points: []Point{{X: 0.5, Y: 1e3}, {X: 0.999999, Y: 2e9}, {X: 1, Y: 3e9}}}}),
	}
}

// Every chart draws, twice the same, is well-formed SVG, and leaves the rim of
// the page white: nothing is clipped.
func TestChartsAreWholeAndDeterministic(t *testing.T) {
	dir := os.Getenv("OSV_PLOT_SAMPLES") // set it to look at the pictures
	first, second := append(samples(), awkward()...), append(samples(), awkward()...)
	for i, c := range first {
		svg, err := c.SVG()
		if err != nil {
			t.Fatal(err)
		}
		pic, err := c.PNG()
		if err != nil {
			t.Fatal(err)
		}
		svg2, _ := second[i].SVG()
		pic2 := pic
		if i%5 == 0 { // rasterising is slow under the race detector
			pic2, _ = second[i].PNG()
		}
		if !bytes.Equal(svg, svg2) || !bytes.Equal(pic, pic2) {
			t.Errorf("%s is not the same when drawn again", c.Name)
		}
		for dec := xml.NewDecoder(bytes.NewReader(svg)); ; {
			if _, err := dec.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v", c.Name, err)
			}
		}
		img, err := png.Decode(bytes.NewReader(pic))
		if err != nil {
			t.Fatal(err)
		}
		if at, ok := rimIsWhite(img, 16); !ok {
			t.Errorf("%s is clipped or too wide at %v", c.Name, at)
		}
		if dir == "" {
			continue
		}
		var gray bytes.Buffer
		if err := png.Encode(&gray, toGray(img)); err != nil {
			t.Fatal(err)
		}
		for ext, b := range map[string][]byte{".svg": svg, ".png": pic, ".gray.png": gray.Bytes()} {
			if err := os.WriteFile(filepath.Join(dir, c.Name+ext), b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func rimIsWhite(img image.Image, rim int) (image.Point, bool) {
	b := img.Bounds()
	for y := b.Min.Y; y < b.Max.Y; y++ {
		for x := b.Min.X; x < b.Max.X; x++ {
			if x >= b.Min.X+rim && x < b.Max.X-rim && y >= b.Min.Y+rim && y < b.Max.Y-rim {
				continue
			}
			if r, g, bl, _ := img.At(x, y).RGBA(); r != 0xffff || g != 0xffff || bl != 0xffff {
				return image.Pt(x, y), false
			}
		}
	}
	return image.Point{}, true
}

func toGray(img image.Image) image.Image {
	g := image.NewGray(img.Bounds())
	for y := img.Bounds().Min.Y; y < img.Bounds().Max.Y; y++ {
		for x := img.Bounds().Min.X; x < img.Bounds().Max.X; x++ {
			g.Set(x, y, img.At(x, y))
		}
	}
	return g
}

// Without colour, the systems that meet in one chart differ in dash and glyph,
// and their bars in lightness.
func TestGreyscaleTellsSystemsApart(t *testing.T) {
	gray := func(c color.NRGBA) float64 {
		a := float64(c.A) / 255
		over := func(v uint8) float64 { return a*float64(v) + (1-a)*255 }
		return 0.299*over(c.R) + 0.587*over(c.G) + 0.114*over(c.B)
	}
	main := []Look{LookOurs, LookBaseline, LookRival}
	for i, a := range main {
		for _, b := range main[i+1:] {
			if d := math.Abs(gray(barTint(a)) - gray(barTint(b))); d < 12 {
				t.Errorf("bars of looks %d and %d are %.0f grey levels apart", a, b, d)
			}
		}
	}
	for i, a := range looks {
		for _, b := range looks[i+1:] {
			if len(a.dashes) == len(b.dashes) && (len(a.dashes) == 0 || a.dashes[0] == b.dashes[0]) {
				t.Errorf("two looks share the dashes %v", a.dashes)
			}
		}
	}
	for _, l := range looks { // text in these colours on white, WCAG 2.1 §1.4.3: large text 3:1
		lum := func(v uint8) float64 {
			s := float64(v) / 255
			if s <= 0.04045 {
				return s / 12.92
			}
			return math.Pow((s+0.055)/1.055, 2.4)
		}
		y := 0.2126*lum(l.ink.R) + 0.7152*lum(l.ink.G) + 0.0722*lum(l.ink.B)
		if contrast := 1.05 / (y + 0.05); contrast < 3 {
			t.Errorf("contrast of %v on paper is %.2f", l.ink, contrast)
		}
	}
}

func TestScales(t *testing.T) {
	for _, c := range []struct {
		s    scale
		want string
	}{
		{linear(0, 61300, 6, short), "0 20k 40k 60k 80k"},
		{linear(0, 3.7, 6, short), "0 1 2 3 4"},
		{linear(5, 5, 6, short), "5 5.2 5.4 5.6 5.8 6"},
		{linear(0.9, 1.07, 5, signedPercent), "−10% −5% 0% +5% +10%"},
		{logarithmic(60e3, 26e6, duration), "50 µs 100 µs 200 µs 500 µs 1 ms 2 ms 5 ms 10 ms 20 ms 50 ms"},
		{logarithmic(0.58, 10, factor), "0.5× 1× 2× 5× 10×"},
		{logarithmic(1, 1e9, short), "1 10 100 1k 10k 100k 1M 10M 100M 1G"},
		{logarithmic(0.97, 1.04, factor), "0.98× 1× 1.02× 1.04×"},
		{logarithmic(1.9, 2.3, short), "1.9 2 2.1 2.2 2.3"},
		{logarithmic(0, 0, short), "0"},
	} {
		var got []string
		for _, v := range c.s.marks() {
			got = append(got, c.s.format(v))
			if p := c.s.at(v); p < -1e-6 || p > 1+1e-6 {
				t.Errorf("tick %v lies at %v", v, p)
			}
		}
		if g := strings.Join(got, " "); g != c.want && c.want != "0" {
			t.Errorf("ticks %q, want %q", g, c.want)
		}
	}
}

func TestFormats(t *testing.T) {
	for got, want := range map[string]string{
		duration(1.5e9): "1.5 s", duration(410e3): "410 µs", duration(12): "12 ns", duration(2.5e6): "2.5 ms",
		percentile(1): "90%", percentile(3): "99.9%", short(-2500): "-2.5k", short(5e6): "5M", factor(0): "0×", factor(9.5412): "9.54×",
	} {
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestWrapBalances(t *testing.T) {
	width := func(s string) vg.Length { return vg.Length(len(s)) }
	lines := wrap(width, "one two three four five six", 24)
	if len(lines) != 2 || lines[0] != "one two three" && lines[0] != "one two three four" || lines[1] == "six" {
		t.Errorf("%q", lines)
	}
	if got := wrap(width, "", 10); len(got) != 0 {
		t.Errorf("%q", got)
	}
	if got := wrap(width, strings.Repeat("x", 50)+" y", 10); len(got) != 2 {
		t.Errorf("%q", got)
	}
}

func TestLabelsDoNotOverlap(t *testing.T) {
	l := []endLabel{{y: 50}, {y: 51}, {y: 49}, {y: 98}, {y: 99}, {y: 2}, {y: 1}}
	spread(l, 12, 0, 100)
	for i, x := range l {
		if x.y < -0.1 || x.y > 100.1 || i > 0 && x.y-l[i-1].y < 11.9 {
			t.Errorf("labels at %v", l)
			break
		}
	}
}

package plot

import (
	"math"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Point is one point of a curve. Lo and Hi are its interval where both are set.
type Point struct {
	X, Y   float64
	Lo, Hi float64
	Hollow bool // client-bound: shown, never claimed
}

// Series is one curve.
type Series struct {
	Label  string // at the end of the line
	Look   Look
	Points []Point // in order of X
	Thin   bool    // a companion of the series that counts
	Bare   bool    // no glyphs
}

// CurveOptions are the axes of a curve chart.
type CurveOptions struct {
	XTitle, YTitle string
	XFormat        func(float64) string // nil = short numbers
	YFormat        func(float64) string
	LogX, LogY     bool
	YFromZero      bool
	Diagonal       bool    // draw y = x
	Limit          float64 // horizontal guide, 0 = none
	LimitLabel     string
	XTicks         []float64
}

// Curve draws lines of y over x.
func Curve(c Chart, series []Series, o CurveOptions) Chart {
	if o.XFormat == nil {
		o.XFormat = short
	}
	if o.YFormat == nil {
		o.YFormat = short
	}
	c.draw = func(pg *page) { drawCurve(pg, series, o) }
	return c
}

// extent is the range of finite values.
type extent struct{ lo, hi float64 }

func (e *extent) add(v float64) {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return
	}
	if e.lo == 0 && e.hi == 0 {
		e.lo, e.hi = v, v
		return
	}
	e.lo, e.hi = math.Min(e.lo, v), math.Max(e.hi, v)
}

func drawCurve(pg *page, series []Series, o CurveOptions) {
	var xe, ye extent
	for _, s := range series {
		for _, p := range s.Points {
			xe.add(p.X)
			ye.add(p.Y)
			if p.Lo != 0 || p.Hi != 0 {
				ye.add(p.Lo)
				ye.add(p.Hi)
			}
		}
	}
	if o.Limit > 0 {
		ye.add(o.Limit)
	}
	if o.YFromZero {
		ye.lo = 0
	}
	axis := func(e extent, log bool, n int, format func(float64) string) scale {
		if log {
			return logarithmic(e.lo, e.hi, format)
		}
		return linear(e.lo, e.hi, n, format)
	}
	x, y := axis(xe, o.LogX, 7, o.XFormat), axis(ye, o.LogY, 5, o.YFormat)
	if o.XTicks != nil {
		x = scale{lo: xe.lo, hi: xe.hi, format: o.XFormat, ticks: o.XTicks}
	}
	var labels []endLabel
	for _, s := range series {
		if s.Label != "" && len(s.Points) > 0 {
			labels = append(labels, endLabel{text: s.Label, look: s.Look, bold: !s.Thin})
		}
	}
	f := pg.axes(x, y, o.XTitle, o.YTitle, labelRoom(labels))
	if o.Diagonal {
		lo, hi := math.Max(x.lo, y.lo), math.Min(x.hi, y.hi)
		a, b := f.pt(lo, lo), f.pt(hi, hi)
		f.StrokeLine2(guideLine, a.X, a.Y, b.X, b.Y)
		near := f.pt(lo+0.7*(hi-lo), lo+0.7*(hi-lo))
		f.FillText(aligned(noteText, draw.XLeft, draw.YTop), vg.Point{X: near.X + 8, Y: near.Y - 2}, "as offered")
	}
	if o.Limit > 0 {
		at := f.py(o.Limit)
		f.StrokeLine2(guideLine, f.left, at, f.right, at)
		f.FillText(aligned(noteText, draw.XLeft, draw.YBottom), vg.Point{X: f.quiet(series, at, noteText.Width(o.LimitLabel)), Y: at + 3}, o.LimitLabel)
	}
	for _, s := range series { // bands under all lines
		f.band(s)
	}
	for _, s := range series {
		f.curve(s)
	}
	n := 0
	for _, s := range series {
		if s.Label != "" && len(s.Points) > 0 {
			last := s.Points[len(s.Points)-1]
			labels[n].y = f.py(last.Y)
			n++
		}
	}
	f.endLabels(labels)
}

// quiet finds where along a horizontal guide a label of the given width meets the
// fewest lines.
func (f frame) quiet(series []Series, at, width vg.Length) vg.Length {
	best, fewest := f.left+3, 1<<30
	for x := f.left + 3; x+width < f.right; x += width / 2 {
		n := 0
		for _, s := range series {
			for i := 1; i < len(s.Points); i++ {
				a, b := f.pt(s.Points[i-1].X, s.Points[i-1].Y), f.pt(s.Points[i].X, s.Points[i].Y)
				for k := vg.Length(0); k <= 1; k += 0.02 { // walk the line
					p := vg.Point{X: a.X + k*(b.X-a.X), Y: a.Y + k*(b.Y-a.Y)}
					if p.X > x-6 && p.X < x+width+6 && p.Y > at-4 && p.Y < at+16 {
						n++
					}
				}
			}
		}
		if n < fewest {
			best, fewest = x, n
		}
	}
	return best
}

// band fills the interval of a series.
func (f frame) band(s Series) {
	var up, down []vg.Point
	for _, p := range s.Points {
		if p.Lo == 0 && p.Hi == 0 {
			continue
		}
		up = append(up, f.pt(p.X, p.Hi))
		down = append([]vg.Point{f.pt(p.X, p.Lo)}, down...)
	}
	if len(up) > 1 {
		f.FillPolygon(band(s.Look.get().ink), append(up, down...))
	}
}

func (f frame) curve(s Series) {
	width := vg.Length(lineWidth)
	if s.Thin {
		width = thinWidth
	}
	pts := make([]vg.Point, 0, len(s.Points))
	for _, p := range s.Points {
		pts = append(pts, f.pt(p.X, p.Y))
	}
	if len(pts) > 1 {
		f.StrokeLines(s.Look.line(width), pts)
	}
	if s.Bare {
		return
	}
	size := vg.Length(glyphSize)
	if s.Thin {
		size = 2.2
	}
	for i, p := range s.Points {
		mark(f.Canvas, s.Look.get().glyph, pts[i], size, s.Look.get().ink, p.Hollow)
	}
}

// LatencyCurve is chart 1: latency quantiles over offered load. Times are in
// nanoseconds.
func LatencyCurve(c Chart, series []Series, slo float64) Chart {
	o := CurveOptions{XTitle: "offered requests per second", YTitle: "latency from intended send time, logarithmic", YFormat: duration, LogY: true, LogX: true}
	if slo > 0 {
		o.Limit, o.LimitLabel = slo, "limit of p99: "+duration(slo)
	}
	return Curve(c, series, o)
}

// AchievedCurve is chart 2: answered over offered rate.
func AchievedCurve(c Chart, series []Series) Chart {
	return Curve(c, series, CurveOptions{XTitle: "offered requests per second", YTitle: "answered requests per second", YFromZero: true, Diagonal: true})
}

// PercentileCurve is chart 3: latency over percentile, the x axis in nines. The
// points' X is the quantile, 0 to 1.
func PercentileCurve(c Chart, series []Series) Chart {
	most := 1.0
	var conv []Series
	for _, s := range series {
		n := s
		n.Points, n.Bare = nil, true
		for _, p := range s.Points {
			if p.X < 1 {
				p.X = -math.Log10(1 - p.X)
				n.Points = append(n.Points, p)
				most = math.Max(most, p.X)
			}
		}
		conv = append(conv, n)
	}
	ticks := []float64{0, -math.Log10(0.5)}
	for v := 1.0; v <= most+1e-9; v++ {
		ticks = append(ticks, v)
	}
	format := func(v float64) string {
		if v == 0 {
			return "0"
		}
		return percentile(v)
	}
	return Curve(c, conv, CurveOptions{XTitle: "percentile of requests", YTitle: "latency, logarithmic", XFormat: format, YFormat: duration, LogY: true, XTicks: ticks})
}

// DriftCurve is charts 9: each boot's value relative to its system's median, in
// the order of boots. Y is 1 at the median.
func DriftCurve(c Chart, series []Series) Chart {
	o := CurveOptions{XTitle: "boot, in the order of the run", YTitle: "difference from the system's own median", YFormat: signedPercent}
	for i := range series {
		series[i].Thin = true
	}
	return Curve(c, series, o)
}

package plot

import (
	"image/color"
	"slices"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Row is one line of a bar, dot or ratio chart.
type Row struct {
	Group  string // rows of a group stand together under its name
	Label  string
	Look   Look
	Values []float64 // one dot for each boot
	Mid    float64   // median, or ratio
	Lo, Hi float64   // interval where both are set
	Hollow bool
	Text   string // value with unit, right of the data
}

// RowOptions are the axis of a row chart.
type RowOptions struct {
	XTitle string
	Format func(float64) string // nil = short numbers
	Bars   bool                 // bars from zero to Mid
	Log    bool
	// Ref is a vertical guide (1 for ratios), 0 = none; BandLo and BandHi shade
	// a range around it.
	Ref            float64
	BandLo, BandHi float64
}

const (
	rowHeight   = 21
	groupHeight = 20
	// tick labels and axis title under the rows
	rowAxisHeight = 14 + 14 + 6
)

// Rows draws labelled rows. The page grows with them.
func Rows(c Chart, rows []Row, o RowOptions) Chart {
	if o.Format == nil {
		o.Format = short
	}
	h := c.surround() + rowAxisHeight
	last := ""
	for _, r := range rows {
		if r.Group != last {
			h += groupHeight
			last = r.Group
		}
		h += rowHeight
	}
	c.height = h
	c.draw = func(pg *page) { drawRows(pg, rows, o) }
	return c
}

// labelShare is the most that labels may take of a page's width; longer ones are
// cut, since without an axis there is no chart.
const labelShare = 0.48

// shorten cuts a label to a width.
func shorten(s string, room vg.Length) string {
	if valueText.Width(s) <= room {
		return s
	}
	r := []rune(s)
	for len(r) > 1 && valueText.Width(string(r)+"…") > room {
		r = r[:len(r)-1]
	}
	return strings.TrimRight(string(r), " ,") + "…"
}

func drawRows(pg *page, rows []Row, o RowOptions) {
	rows = slices.Clone(rows)
	for i := range rows {
		rows[i].Label = shorten(rows[i].Label, labelShare*(pg.right-pg.left))
		rows[i].Text = shorten(rows[i].Text, (0.7-labelShare)*(pg.right-pg.left)+40)
	}
	var e extent
	var labels, texts vg.Length
	for _, r := range rows {
		e.add(r.Mid)
		if r.Lo != 0 || r.Hi != 0 {
			e.add(r.Lo)
			e.add(r.Hi)
		}
		for _, v := range r.Values {
			e.add(v)
		}
		labels = max(labels, valueText.Width(r.Label))
		texts = max(texts, valueText.Width(r.Text))
	}
	if o.Ref != 0 {
		e.add(o.Ref)
	}
	if o.BandLo != 0 {
		e.add(o.BandLo)
		e.add(o.BandHi)
	}
	var x scale
	if o.Log {
		x = logarithmic(e.lo, e.hi, o.Format)
	} else {
		if o.Bars {
			e.lo = 0
		}
		x = linear(e.lo, e.hi, 6, o.Format)
	}
	f := frame{page: pg, x: x, y: scale{lo: 0, hi: 1}, top: pg.top, bottom: pg.bottom, left: pg.left + labels + 12, right: pg.right - texts - 14}
	f.rowAxis(o)
	if o.Ref != 0 {
		at := f.px(o.Ref)
		f.StrokeLine2(draw.LineStyle{Color: axisInk, Width: 1.2}, at, f.bottom, at, f.top)
	}
	y := f.top
	last := ""
	for _, r := range rows {
		if r.Group != last {
			y -= groupHeight
			f.FillText(aligned(labelText, draw.XLeft, draw.YBottom), vg.Point{X: pg.left, Y: y + 2}, r.Group)
			last = r.Group
		}
		y -= rowHeight
		f.row(r, y+rowHeight/2, o)
	}
}

// rowAxis draws the vertical grid with its labels at the foot.
func (f *frame) rowAxis(o RowOptions) {
	if o.XTitle != "" {
		f.FillText(aligned(axisText, draw.XLeft, draw.YBottom), vg.Point{X: f.left, Y: f.bottom}, o.XTitle)
		f.bottom += 14
	}
	f.bottom += 14
	if o.BandLo != 0 {
		f.FillPolygon(shade, []vg.Point{{X: f.px(o.BandLo), Y: f.bottom}, {X: f.px(o.BandHi), Y: f.bottom}, {X: f.px(o.BandHi), Y: f.top}, {X: f.px(o.BandLo), Y: f.top}})
	}
	f.stamp(*f)
	last := vg.Length(-1e6)
	for _, v := range f.x.marks() {
		at := f.px(v)
		f.StrokeLine2(gridLine, at, f.bottom, at, f.top)
		s := f.x.format(v)
		w := tickText.Width(s)
		if at-w/2 < last+5 || at+w/2 > f.page.right {
			continue
		}
		last = at + w/2
		f.FillText(aligned(tickText, draw.XCenter, draw.YTop), vg.Point{X: at, Y: f.bottom - 3}, s)
	}
}

// row draws one row around the height y.
func (f frame) row(r Row, y vg.Length, o RowOptions) {
	k := r.Look.get()
	c := k.ink
	interval := r.Lo != 0 || r.Hi != 0
	if o.Ref != 0 && (!interval || r.Lo <= o.Ref && r.Hi >= o.Ref) {
		c = unsure // no difference is shown
	}
	f.FillText(aligned(valueText, draw.XLeft, draw.YCenter), vg.Point{X: f.page.left + 8, Y: y + centred}, r.Label)
	f.FillText(aligned(valueText, draw.XLeft, draw.YCenter), vg.Point{X: f.right + 10, Y: y + centred}, r.Text)
	mid := f.px(r.Mid)
	if o.Bars {
		bar := []vg.Point{{X: f.left, Y: y - 6}, {X: mid, Y: y - 6}, {X: mid, Y: y + 6}, {X: f.left, Y: y + 6}}
		if r.Hollow {
			f.FillPolygon(paper, bar)
			f.StrokeLines(draw.LineStyle{Color: c, Width: 1.4}, append(bar, bar[0]))
		} else {
			f.FillPolygon(barTint(r.Look), bar)
			f.StrokeLines(draw.LineStyle{Color: c, Width: 1.2}, append(bar, bar[0]))
		}
	}
	for i, v := range r.Values { // dots a little apart, so that equal ones show
		off := vg.Length(i%3-1) * 2.2
		f.SetColor(c)
		f.Fill(circle.path(vg.Point{X: f.px(v), Y: y + off}, 1.7))
	}
	if interval {
		lo, hi := f.px(r.Lo), f.px(r.Hi)
		st := draw.LineStyle{Color: c, Width: 2}
		if o.Bars {
			st = draw.LineStyle{Color: ink, Width: 1.2}
		}
		f.StrokeLine2(st, lo, y, hi, y)
		f.StrokeLine2(st, lo, y-5, lo, y+5)
		f.StrokeLine2(st, hi, y-5, hi, y+5)
	}
	switch {
	case !o.Bars && o.Ref != 0:
		at := vg.Point{X: mid, Y: y}
		if r.Hollow {
			mark(f.Canvas, k.glyph, at, 3.6, c, true)
		} else {
			f.SetColor(c)
			f.Fill(k.glyph.path(at, 3.6))
		}
	case !o.Bars:
		f.StrokeLine2(draw.LineStyle{Color: c, Width: 2.4}, mid, y-7, mid, y+7)
	}
}

// barTint is the fill of a bar: light, so that dots on it show, and of different
// lightness for each look, so that greyscale tells them apart.
func barTint(l Look) color.NRGBA {
	c := l.get().ink
	c.A = map[Look]uint8{LookOurs: 150, LookBaseline: 60, LookRival: 90, LookVariant: 110}[l]
	if c.A == 0 {
		c.A = 75
	}
	return c
}

// RatioRows is chart 4: ratios on a logarithmic axis around 1; grey where the
// interval spans 1.
func RatioRows(c Chart, rows []Row, title string) Chart {
	return Rows(c, rows, RowOptions{XTitle: title, Format: factor, Log: true, Ref: 1})
}

// NoiseRows is chart 10: the ratios of a system to itself, with the range that
// they should stay in shaded.
func NoiseRows(c Chart, rows []Row, tolerance float64) Chart {
	return Rows(c, rows, RowOptions{XTitle: "difference between equal systems", Format: signedPercent, Ref: 1, BandLo: 1 - tolerance, BandHi: 1 + tolerance})
}

package plot

import (
	"bytes"
	"fmt"
	"html"
	"image/png"
	"regexp"
	"strconv"
	"strings"

	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"
)

// Chart is one picture and the table that says the same.
type Chart struct {
	Name     string // file name without extension
	Title    string // the finding
	Subtitle string // what is shown, in which unit, with which interval
	Footer   string // n, machine, commit
	Mark     string // watermark, "" = none
	Table    Table

	height vg.Length // 0 = pageHeight
	draw   func(pg *page)
}

// Table is a chart in words: columns and rows of cells as shown.
type Table struct {
	Columns []string
	Rows    [][]string
}

// page is a chart being drawn. Everything between top and bottom is the body's.
type page struct {
	draw.Canvas
	left, right, bottom, top vg.Length // the free area
	mark                     string
}

// SVG draws the chart as a document of its own. Text stays text, set to the
// width that it has in Liberation Sans, so that a reader without that font sees
// the same layout in Arial or Helvetica.
func (c Chart) SVG() ([]byte, error) {
	cv := vgsvg.New(pageWidth, c.pageHeight())
	c.render(draw.New(cv))
	var b bytes.Buffer
	if _, err := cv.WriteTo(&b); err != nil {
		return nil, fmt.Errorf("plot %s: %w", c.Name, err)
	}
	s := svgText.ReplaceAllStringFunc(b.String(), fixWidth)
	return []byte(strings.ReplaceAll(s, "font-family:Liberation Sans", "font-family:'Liberation Sans',Arial,Helvetica,sans-serif")), nil
}

// svgText matches a text element as vgsvg writes it.
var svgText = regexp.MustCompile(`<text ([^>]*font-size:([0-9.]+)px[^>]*)>([^<]*)</text>`)

// fixWidth adds the measured width to a text element.
func fixWidth(elem string) string {
	m := svgText.FindStringSubmatch(elem)
	size, err := strconv.ParseFloat(m[2], 64)
	if err != nil {
		return elem
	}
	st := face(vg.Length(size), strings.Contains(m[1], "font-weight:bold"), ink)
	w := st.Width(html.UnescapeString(m[3])).Points()
	return fmt.Sprintf(`<text textLength="%.1f" lengthAdjust="spacingAndGlyphs" %s>%s</text>`, w, m[1], m[3])
}

// PNG draws the chart at 192 dots an inch.
func (c Chart) PNG() ([]byte, error) {
	cv := vgimg.NewWith(vgimg.UseWH(pageWidth, c.pageHeight()), vgimg.UseDPI(dpi), vgimg.UseBackgroundColor(paper))
	c.render(draw.New(cv))
	var b bytes.Buffer
	enc := png.Encoder{CompressionLevel: png.DefaultCompression}
	if err := enc.Encode(&b, cv.Image()); err != nil {
		return nil, fmt.Errorf("plot %s: %w", c.Name, err)
	}
	return b.Bytes(), nil
}

func (c Chart) pageHeight() vg.Length {
	if c.height == 0 {
		return pageHeight
	}
	return c.height
}

// render lays out title, subtitle and footer, then the body.
func (c Chart) render(dc draw.Canvas) {
	dc.FillPolygon(paper, []vg.Point{dc.Min, {X: dc.Max.X, Y: dc.Min.Y}, dc.Max, {X: dc.Min.X, Y: dc.Max.Y}})
	pg := &page{Canvas: dc, left: dc.Min.X + margin, right: dc.Max.X - margin, bottom: dc.Min.Y + margin, top: dc.Max.Y - margin, mark: c.Mark}
	width := pg.right - pg.left
	for _, line := range wrap(titleText.Width, c.Title, width) {
		pg.FillText(titleText, vg.Point{X: pg.left, Y: pg.top - 15}, line)
		pg.top -= titleLine
	}
	for _, line := range wrap(subtitleText.Width, c.Subtitle, width) {
		pg.FillText(subtitleText, vg.Point{X: pg.left, Y: pg.top - 11}, line)
		pg.top -= subtitleLine
	}
	pg.top -= headGap
	lines := wrap(footerText.Width, c.Footer, width)
	for i := len(lines) - 1; i >= 0; i-- {
		pg.FillText(footerText, vg.Point{X: pg.left, Y: pg.bottom}, lines[i])
		pg.bottom += footerLine
	}
	pg.bottom += footGap
	c.draw(pg)
}

// wrap breaks a text into as few lines as fit, of about equal length; a word
// longer than a line stays whole.
func wrap(width func(string) vg.Length, s string, room vg.Length) []string {
	lines := fill(width, s, room)
	n := len(lines)
	if n < 2 {
		return lines
	}
	lo, hi := room/vg.Length(n)/2, room // the least room that still gives n lines
	for range 7 {
		mid := (lo + hi) / 2
		if tighter := fill(width, s, mid); len(tighter) > n {
			lo = mid
		} else {
			hi, lines = mid, tighter
		}
	}
	return lines
}

func fill(width func(string) vg.Length, s string, room vg.Length) []string {
	var lines []string
	line := ""
	for _, w := range strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == '\n' }) { // a no-break space holds
		if line != "" && width(line+" "+w) > room {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += w
	}
	if line != "" {
		lines = append(lines, line)
	}
	return lines
}

// Heights of the parts of a page around the body, in points.
const (
	titleLine    = 19
	subtitleLine = 14
	footerLine   = 10
	headGap      = 10
	footGap      = 6
)

// surround is the height of everything but the body.
func (c Chart) surround() vg.Length {
	width := vg.Length(pageWidth - 2*margin)
	return 2*margin + headGap + footGap + titleLine*vg.Length(len(wrap(titleText.Width, c.Title, width))) +
		subtitleLine*vg.Length(len(wrap(subtitleText.Width, c.Subtitle, width))) + footerLine*vg.Length(len(wrap(footerText.Width, c.Footer, width)))
}

// frame is a plot area with two scales.
type frame struct {
	*page
	x, y                     scale
	left, right, bottom, top vg.Length
}

func (f frame) px(v float64) vg.Length {
	return f.left + vg.Length(f.x.at(v))*(f.right-f.left)
}

func (f frame) py(v float64) vg.Length {
	return f.bottom + vg.Length(f.y.at(v))*(f.top-f.bottom)
}

func (f frame) pt(x, y float64) vg.Point { return vg.Point{X: f.px(x), Y: f.py(y)} }

// axes makes a frame in the free area: room for tick labels left and below, for
// data labels right, watermark, grid, x axis, titles of the axes.
func (pg *page) axes(x, y scale, xTitle, yTitle string, labels vg.Length) frame {
	f := frame{page: pg, x: x, y: y, top: pg.top, bottom: pg.bottom, right: pg.right - labels}
	if yTitle != "" { // above the axis, not turned
		f.top -= 10
		pg.FillText(aligned(axisText, draw.XLeft, draw.YBottom), vg.Point{X: pg.left, Y: f.top + 2}, yTitle)
		f.top -= 8
	}
	if xTitle != "" {
		pg.FillText(aligned(axisText, draw.XRight, draw.YBottom), vg.Point{X: f.right, Y: f.bottom}, xTitle)
		f.bottom += 14
	}
	f.bottom += 14
	widest := vg.Length(0)
	for _, v := range y.marks() {
		widest = max(widest, tickText.Width(y.format(v)))
	}
	f.left = pg.left + widest + 8
	xm := x.marks()
	if n := len(xm); n > 0 { // the last tick label must not clip
		over := f.px(xm[n-1]) + tickText.Width(x.format(xm[n-1]))/2 - pg.right
		f.right -= max(0, over)
	}
	pg.stamp(f)
	for _, v := range y.marks() {
		at := f.py(v)
		pg.StrokeLine2(gridLine, f.left, at, f.right, at)
		pg.FillText(aligned(tickText, draw.XRight, draw.YCenter), vg.Point{X: f.left - 6, Y: at + centred}, y.format(v))
	}
	pg.StrokeLine2(axisLine, f.left, f.bottom, f.right, f.bottom)
	last := vg.Length(-1e6)
	for _, v := range xm {
		at := f.px(v)
		pg.StrokeLine2(axisLine, at, f.bottom, at, f.bottom-3)
		s := x.format(v)
		w := tickText.Width(s)
		if at-w/2 < last+4 {
			continue // would touch its neighbour
		}
		last = at + w/2
		pg.FillText(aligned(tickText, draw.XCenter, draw.YTop), vg.Point{X: at, Y: f.bottom - 5}, s)
	}
	return f
}

// stamp writes the watermark behind the data.
func (pg *page) stamp(f frame) {
	if pg.mark == "" {
		return
	}
	s := markText
	for s.Font.Size > 8 && s.Width(pg.mark) > (f.right-f.left)*0.95 {
		s.Font.Size--
	}
	pg.FillText(aligned(s, draw.XCenter, draw.YCenter), vg.Point{X: (f.left + f.right) / 2, Y: (f.bottom + f.top) / 2}, pg.mark)
}

// centred corrects gonum's vertical centring, which counts the room for
// descenders: text looks low by this much.
const centred = 1.3

// endLabel is a label at the end of a line.
type endLabel struct {
	y    vg.Length
	text string
	look Look
	bold bool
}

// spread moves labels apart so that none overlap, keeping their order and
// staying within lo..hi where they fit.
func spread(l []endLabel, gap, lo, hi vg.Length) {
	for i := range l { // insertion sort by y: a handful of labels
		for j := i; j > 0 && l[j].y < l[j-1].y; j-- {
			l[j], l[j-1] = l[j-1], l[j]
		}
	}
	for range 200 {
		moved := false
		for i := 1; i < len(l); i++ {
			if d := gap - (l[i].y - l[i-1].y); d > 0.01 {
				l[i].y += d / 2
				l[i-1].y -= d / 2
				moved = true
			}
		}
		if n := len(l); n > 0 {
			if l[0].y < lo {
				l[0].y = lo
			}
			if l[n-1].y > hi {
				l[n-1].y = hi
			}
		}
		if !moved {
			return
		}
	}
}

// labelRoom is the width that end labels need.
func labelRoom(l []endLabel) vg.Length {
	w := vg.Length(0)
	for _, x := range l {
		w = max(w, labelText.Width(x.text))
	}
	return w + 14
}

// endLabels writes labels right of a frame.
func (f frame) endLabels(l []endLabel) {
	spread(l, 12.5, f.bottom, f.top)
	for _, x := range l {
		st := colored(labelText, x.look.get().ink)
		if !x.bold {
			st.Font.Weight = 0
		}
		f.FillText(aligned(st, draw.XLeft, draw.YCenter), vg.Point{X: f.right + 10, Y: x.y + centred}, x.text)
	}
}

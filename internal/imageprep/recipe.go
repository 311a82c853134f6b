package imageprep

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
)

// Recipe is how pictures of any size become values of one shape. It is
// immutable and safe for concurrent use.
type Recipe struct {
	exact         bool // resize to resized; otherwise the shorter edge to shortest
	shortest      int  // 0: no resize
	resized       size
	filter        filter
	crop          size // 0: none
	levels        [3][256]float32
	factor        float64
	mean, std     [3]float64
	rescale, norm bool
}

type size struct{ width, height int }

// maxEdge is the largest edge that a recipe may ask for.
const maxEdge = 1 << 12

// config is a preprocessor_config.json.
type config struct {
	Resize     *bool           `json:"do_resize"`
	Size       json.RawMessage `json:"size"`
	Resample   *int            `json:"resample"`
	CenterCrop *bool           `json:"do_center_crop"`
	CropSize   json.RawMessage `json:"crop_size"`
	CropPct    *float64        `json:"crop_pct"`
	Rescale    *bool           `json:"do_rescale"`
	Factor     *float64        `json:"rescale_factor"`
	Normalize  *bool           `json:"do_normalize"`
	Mean       json.RawMessage `json:"image_mean"`
	Std        json.RawMessage `json:"image_std"`
	Pad        *bool           `json:"do_pad"`
	Offset     *bool           `json:"offset"`
	Format     string          `json:"data_format"`
}

// Parse reads a preprocessor_config.json. Steps that are not named are as in
// most processors: pictures are resized if a size is given and cropped if a
// crop size is, divided by 255, and normalized if a mean is given. A size that
// is one number is the shorter edge if a crop follows, else that of a square.
// Pictures always become RGB, whatever do_convert_rgb says. What the recipe
// does must give one shape for all pictures.
func Parse(data []byte) (*Recipe, error) {
	var c config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, err
	}
	switch {
	case on(c.Pad, false):
		return nil, errors.New("do_pad is not known")
	case on(c.Offset, false):
		return nil, errors.New("offset is not known")
	case c.CropPct != nil:
		return nil, errors.New("crop_pct is not known")
	case c.Format != "" && c.Format != "channels_first":
		return nil, fmt.Errorf("data_format %q: only channels_first is known", c.Format)
	}
	r := &Recipe{rescale: on(c.Rescale, true), factor: 1.0 / 255, norm: on(c.Normalize, given(c.Mean))}
	if err := r.setCrop(c); err != nil {
		return nil, err
	}
	if err := r.setResize(c); err != nil {
		return nil, err
	}
	if !r.exact && r.crop == (size{}) {
		return nil, errors.New("pictures would keep their proportions or size (no crop_size, and size is no height and width), but a batch needs one shape")
	}
	return r, r.setLevels(c)
}

func on(b *bool, otherwise bool) bool {
	if b == nil {
		return otherwise
	}
	return *b
}

func given(raw json.RawMessage) bool { return len(raw) > 0 && string(raw) != "null" }

// edges is a size in any of its forms.
type edges struct {
	Height   int `json:"height"`
	Width    int `json:"width"`
	Shortest int `json:"shortest_edge"`
}

// parseEdges reads {height, width}, {shortest_edge}, [height, width] or one
// number, which is given as a shortest edge.
func parseEdges(name string, raw json.RawMessage) (e edges, number bool, err error) {
	var n int
	var pair [2]int
	switch {
	case json.Unmarshal(raw, &n) == nil:
		e.Shortest, number = n, true
	case json.Unmarshal(raw, &pair) == nil:
		e.Height, e.Width = pair[0], pair[1]
	default:
		var keys map[string]int
		if err := json.Unmarshal(raw, &keys); err != nil {
			return e, false, fmt.Errorf("%s: %w", name, err)
		}
		for key, v := range keys {
			switch key {
			case "height":
				e.Height = v
			case "width":
				e.Width = v
			case "shortest_edge":
				e.Shortest = v
			default:
				return e, false, fmt.Errorf("%s: %s is not known", name, key)
			}
		}
	}
	exact := e.Height != 0 || e.Width != 0
	ok := func(edge int) bool { return edge >= 1 && edge <= maxEdge }
	if exact == (e.Shortest != 0) || exact && !(ok(e.Height) && ok(e.Width)) || !exact && !ok(e.Shortest) {
		return e, false, fmt.Errorf("%s: %s is no height and width, or shortest_edge, of 1 to %d", name, raw, maxEdge)
	}
	return e, number, nil
}

func (r *Recipe) setCrop(c config) error {
	if !on(c.CenterCrop, given(c.CropSize)) {
		return nil
	}
	if !given(c.CropSize) {
		return errors.New("do_center_crop without crop_size")
	}
	e, number, err := parseEdges("crop_size", c.CropSize)
	if err != nil {
		return err
	}
	if e.Shortest != 0 {
		if !number {
			return errors.New("crop_size: shortest_edge is not known")
		}
		e.Height, e.Width = e.Shortest, e.Shortest
	}
	r.crop = size{e.Width, e.Height}
	return nil
}

func (r *Recipe) setResize(c config) error {
	if !on(c.Resize, given(c.Size)) {
		return nil
	}
	if !given(c.Size) {
		return errors.New("do_resize without size")
	}
	e, number, err := parseEdges("size", c.Size)
	if err != nil {
		return err
	}
	if number && r.crop == (size{}) {
		e.Height, e.Width, e.Shortest = e.Shortest, e.Shortest, 0
	}
	r.shortest, r.resized, r.exact = e.Shortest, size{e.Width, e.Height}, e.Shortest == 0
	resample := 2
	if c.Resample != nil {
		resample = *c.Resample
	}
	var ok bool
	if r.filter, ok = filters[resample]; !ok {
		return fmt.Errorf("resample: %d is not known", resample)
	}
	return nil
}

// setLevels tabulates what becomes of each of the 256 levels of a channel, in
// the reference's arithmetic: a product in float64, the rest in float32.
func (r *Recipe) setLevels(c config) error {
	if c.Factor != nil {
		r.factor = *c.Factor
	}
	r.std = [3]float64{1, 1, 1}
	if r.norm {
		var err error
		if r.mean, err = perChannel("image_mean", c.Mean); err != nil {
			return err
		}
		if r.std, err = perChannel("image_std", c.Std); err != nil {
			return err
		}
	}
	for channel := range r.levels {
		for level := range r.levels[channel] {
			v := float32(level)
			if r.rescale {
				v = float32(float64(level) * r.factor)
			}
			if r.norm {
				v = (v - float32(r.mean[channel])) / float32(r.std[channel])
			}
			if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
				return fmt.Errorf("rescale_factor, image_mean and image_std make level %d no number", level)
			}
			r.levels[channel][level] = v
		}
	}
	return nil
}

// perChannel reads three numbers, or one for all channels.
func perChannel(name string, raw json.RawMessage) (v [3]float64, err error) {
	var list []float64
	if json.Unmarshal(raw, &v[0]) == nil {
		return [3]float64{v[0], v[0], v[0]}, nil
	}
	if err := json.Unmarshal(raw, &list); err != nil || len(list) != 3 {
		return v, fmt.Errorf("%s: %s is not three numbers", name, raw)
	}
	return [3]float64(list), nil
}

// Size returns the height and width of what pictures become.
func (r *Recipe) Size() (height, width int) {
	if r.crop != (size{}) {
		return r.crop.height, r.crop.width
	}
	return r.resized.height, r.resized.width
}

// String is the canonical form of all that decides the values.
func (r *Recipe) String() string {
	s := "rgb"
	if r.exact {
		s += fmt.Sprintf(" resize %dx%d %s", r.resized.width, r.resized.height, r.filter.name)
	} else if r.shortest > 0 {
		s += fmt.Sprintf(" resize shortest %d %s", r.shortest, r.filter.name)
	}
	if r.crop != (size{}) {
		s += fmt.Sprintf(" crop %dx%d", r.crop.width, r.crop.height)
	}
	if r.rescale {
		s += fmt.Sprintf(" rescale %v", r.factor)
	}
	if r.norm {
		s += fmt.Sprintf(" normalize %v %v", r.mean, r.std)
	}
	return s
}

// Prepare decodes a picture and writes its values to dst, which has
// 3*height*width: first all of red, then green, then blue.
func (r *Recipe) Prepare(dst []float32, file []byte) error {
	height, width := r.Size()
	if len(dst) != 3*height*width {
		return fmt.Errorf("prepare a picture: room for %d values, want %d", len(dst), 3*height*width)
	}
	p, err := decode(file)
	if err != nil {
		return err
	}
	whole := r.target(p.size)
	at := size{start(whole.width, width), start(whole.height, height)}
	out := p.window(r.filter, whole, at, size{width, height})
	n := height * width
	for channel := range 3 {
		levels, plane := &r.levels[channel], dst[channel*n:(channel+1)*n]
		for i := range plane {
			plane[i] = levels[out[3*i+channel]]
		}
	}
	return nil
}

// target is the size of a picture after resizing.
func (r *Recipe) target(p size) size {
	switch {
	case r.exact:
		return r.resized
	case r.shortest == 0:
		return p
	case p.width <= p.height:
		return size{r.shortest, r.shortest * p.height / p.width}
	}
	return size{r.shortest * p.width / p.height, r.shortest}
}

// start is where a centered crop starts; it is negative where the picture is
// smaller than the crop.
func start(whole, crop int) int {
	if whole >= crop {
		return (whole - crop) / 2
	}
	return -((crop - whole + 1) / 2)
}

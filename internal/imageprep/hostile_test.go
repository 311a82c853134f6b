package imageprep

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"image"
	"image/color"
	"image/png"
	"runtime"
	"slices"
	"strings"
	"testing"
)

func parse(t testing.TB, config string) *Recipe {
	t.Helper()
	r, err := Parse([]byte(config))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pngHeader is a PNG that claims a size and has no more.
func pngHeader(width, height uint32) []byte {
	head := binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32([]byte("IHDR"), width), height)
	head = append(head, 8, 2, 0, 0, 0)
	b := append([]byte("\x89PNG\r\n\x1a\n\x00\x00\x00\x0d"), head...)
	return binary.BigEndian.AppendUint32(b, crc32.ChecksumIEEE(head))
}

// TestHostilePictures: sizes that lie and files that are cut are errors, and
// need no memory to speak of.
func TestHostilePictures(t *testing.T) {
	r := parse(t, `{"size": {"height": 8, "width": 8}}`)
	dst := make([]float32, 3*8*8)
	v := readVectors(t)
	gif := slices.Clone(v.Pictures["palette.gif"])
	binary.LittleEndian.PutUint16(gif[6:], 65535)
	binary.LittleEndian.PutUint16(gif[8:], 65535)
	cases := map[string]struct {
		file []byte
		want string
	}{
		"nothing":   {nil, "no PNG, JPEG, GIF or WebP"},
		"text":      {[]byte("GI am no picture"), "no PNG, JPEG, GIF or WebP"},
		"bomb":      {pngHeader(1<<16, 1<<16), "more than 67108864 in all"},
		"few bytes": {pngHeader(8000, 8000), "so few bytes"},
		"gif":       {gif, "more than"},
		"no pixels": {pngHeader(0, 5), "PNG file of 33 bytes"},
	}
	for name, file := range v.Pictures {
		cases["cut "+name] = struct {
			file []byte
			want string
		}{file[:len(file)/3], "file of"}
	}
	var before, after runtime.MemStats
	for name, tc := range cases {
		runtime.ReadMemStats(&before)
		err := r.Prepare(dst, tc.file)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: error %v, want one with %q", name, err, tc.want)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
			t.Errorf("%s: %d bytes were allocated", name, n)
		}
	}
	if err := r.Prepare(dst[1:], v.Pictures["rgb.png"]); err == nil {
		t.Error("too little room is no error")
	}
}

// TestOddProportions: a line of pixels, whose shorter edge would become 64,
// needs memory for what the crop keeps alone.
func TestOddProportions(t *testing.T) {
	line := image.NewNRGBA(image.Rect(0, 0, 60000, 1))
	for x := range 60000 {
		line.SetNRGBA(x, 0, color.NRGBA{byte(x >> 8), 7, 9, 255})
	}
	var b bytes.Buffer
	if err := png.Encode(&b, line); err != nil {
		t.Fatal(err)
	}
	r := parse(t, `{"size": {"shortest_edge": 64}, "crop_size": 64, "do_rescale": false, "resample": 3}`)
	dst := make([]float32, 3*64*64)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	if err := r.Prepare(dst, b.Bytes()); err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 8<<20 {
		t.Errorf("%d bytes were allocated", n)
	}
	if dst[0] != 30000>>8 || dst[64*64] != 7 || dst[2*64*64] != 9 {
		t.Errorf("the middle is %v %v %v", dst[0], dst[64*64], dst[2*64*64])
	}
}

func TestBadConfigs(t *testing.T) {
	for config, want := range map[string]string{
		`{`:                                     "unexpected end",
		`{}`:                                    "one shape",
		`{"size": {"shortest_edge": 224}}`:      "one shape",
		`{"do_resize": true}`:                   "without size",
		`{"do_center_crop": true, "size": 224}`: "without crop_size",
		`{"size": {"longest_edge": 224}}`:       "longest_edge is not known",
		`{"size": {"height": 224}}`:             "no height and width",
		`{"size": {"height": 10, "width": 99999}}`: "no height and width",
		`{"size": -3}`:                                                 "no height and width",
		`{"size": "big"}`:                                              "size",
		`{"size": 8, "resample": 9}`:                                   "resample: 9",
		`{"size": 8, "crop_pct": 0.9}`:                                 "crop_pct",
		`{"size": 8, "do_pad": true}`:                                  "do_pad",
		`{"size": 8, "image_mean": [0.5]}`:                             "image_mean",
		`{"size": 8, "do_normalize": true}`:                            "image_mean",
		`{"size": 8, "image_mean": 0}`:                                 "image_std",
		`{"size": 8, "image_mean": [0, 0, 0], "image_std": [1, 0, 1]}`: "no number",
		`{"size": 8, "data_format": "channels_last"}`:                  "data_format",
		`{"size": 8, "rescale_factor": 1e999}`:                         "rescale_factor",
	} {
		if _, err := Parse([]byte(config)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", config, err, want)
		}
	}
}

// TestString: recipes that differ have other forms, and what is left out is
// what most processors do.
func TestString(t *testing.T) {
	seen := map[string]string{}
	for _, config := range []string{
		`{"size": 8}`, `{"size": 9}`, `{"size": {"height": 8, "width": 9}}`, `{"size": 8, "resample": 3}`, `{"size": 8, "crop_size": 8}`, `{"size": 8, "crop_size": 7}`,
		`{"size": 8, "do_rescale": false}`, `{"size": 8, "rescale_factor": 0.1}`, `{"size": 8, "image_mean": 0.5, "image_std": 0.5}`, `{"size": 8, "image_mean": [0.5, 0.5, 0.4], "image_std": 0.5}`,
		`{"crop_size": 8}`,
	} {
		s := parse(t, config).String()
		if seen[s] != "" {
			t.Errorf("%s and %s are both %q", config, seen[s], s)
		}
		seen[s] = config
	}
	full := `{"do_resize": true, "size": {"height": 8, "width": 8}, "resample": 2, "do_center_crop": false, "crop_size": 5, "do_rescale": true, "rescale_factor": 0.00392156862745098, "do_normalize": false, "image_mean": [1, 1, 1], "image_std": [1, 1, 1]}`
	if a, b := parse(t, `{"size": 8}`).String(), parse(t, full).String(); a != b {
		t.Errorf("%q is not %q", a, b)
	}
}

func FuzzPrepare(f *testing.F) {
	for _, file := range readVectors(f).Pictures {
		f.Add(file)
	}
	r := parse(f, `{"size": {"shortest_edge": 9}, "crop_size": 8}`)
	f.Fuzz(func(t *testing.T, file []byte) {
		for _, format := range formats { // big ones only take time
			if format.is(file) {
				if c, err := format.config(file); err == nil && c.Width*c.Height > 1<<20 {
					t.Skip()
				}
			}
		}
		dst := make([]float32, 3*8*8)
		if err := r.Prepare(dst, file); err != nil {
			return
		}
		for _, v := range dst {
			if !(v >= 0 && v <= 1) {
				t.Fatalf("value %v", v)
			}
		}
	})
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"size": {"shortest_edge": 9}, "crop_size": 8, "image_mean": [1, 2, 3], "image_std": 2}`))
	pixel := readVectors(f).Pictures["pixel.png"]
	f.Fuzz(func(t *testing.T, config []byte) {
		r, err := Parse(config)
		if err != nil {
			return
		}
		h, w := r.Size()
		if h < 1 || w < 1 || h > maxEdge || w > maxEdge {
			t.Fatalf("%d x %d", h, w)
		}
		if h*w < 1<<16 {
			if err := r.Prepare(make([]float32, 3*h*w), pixel); err != nil {
				t.Fatal(err)
			}
		}
	})
}

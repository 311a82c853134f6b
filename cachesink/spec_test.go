package cachesink

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v15/arrow"

	"github.com/permafrost-ml/permafrost/encode"
)

// TestSpecification computes the names, ids and sums of the golden caches from
// the text of the package documentation alone.
func TestSpecification(t *testing.T) {
	for version := range goldenFills {
		t.Run(fmt.Sprint(version), func(t *testing.T) { testSpecification(t, golden(version)) })
	}
}

func testSpecification(t *testing.T, golden string) {
	c, err := Open(t.Context(), Dir(golden), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := c.Manifest()
	hash := func(text string) string {
		d := sha256.Sum256([]byte(text))
		return hex.EncodeToString(d[:])
	}
	for _, e := range m.Encoders {
		if want := fmt.Sprintf("encoders/%s-%.12s", e.Name, hash("permafrost.folder.v1\n"+e.Fingerprint+"\n"+string(e.DType))); e.Folder != want {
			t.Errorf("folder %s, want %s", e.Folder, want)
		}
		for i, s := range e.Shards {
			storage := cmp.Or(s.Storage, "float32")
			text := fmt.Sprintf("permafrost.shard.v1\n%s\n%s\n2\n", e.Fingerprint, storage)
			n := binary.LittleEndian.AppendUint64(nil, uint64(s.Rows))
			err := readFile(t.Context(), c.st, c.mem, s.File, func(rec arrow.Record) error {
				ids, err := idColumn(rec)
				text += string(n) + string(ids)
				n = nil
				md := rec.Schema().Metadata()
				if metaValue(md, "permafrost.dtype") != string(e.DType) || storage != "float32" && metaValue(md, "permafrost.storage") != storage {
					t.Errorf("%s: metadata %v", s.Name, md)
				}
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
			if s.ID != hash(text) || s.Name != fmt.Sprintf("%s/%05d-%.8s.arrow", e.Folder, i, s.ID) {
				t.Errorf("shard %s of id %s, want %s", s.Name, s.ID, hash(text))
			}
		}
	}
	for f := range m.files() {
		b, err := os.ReadFile(filepath.Join(golden, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		var sums []byte
		for at := 0; at < len(b); at += 65536 {
			sums = binary.LittleEndian.AppendUint32(sums, crc32.Checksum(b[at:min(at+65536, len(b))], crc32.MakeTable(crc32.Castagnoli)))
		}
		stored, err := os.ReadFile(filepath.Join(golden, f.Name+".sum"))
		if err != nil || string(stored) != string(sums) || f.Sum != hash(string(sums)) || f.Bytes != int64(len(b)) {
			t.Errorf("%s: sums %x, want %x; %v", f.Name, stored, sums, err)
		}
	}
	s := m.Splits[0]
	if got, want := s.Fingerprint, hash(trainText(t, m)); got != want {
		t.Errorf("fingerprint of train %s, want %s", got, want)
	}
	text := "permafrost.splitfolder.v1\n" + s.Fingerprint + "\n" + s.Files[0].Sum + "\n" + s.Inputs[0].Sum + "\n"
	if want := fmt.Sprintf("splits/train-%.12s", hash(text)); s.Folder != want {
		t.Errorf("folder %s, want %s", s.Folder, want)
	}
}

// trainText is what the fingerprint of the golden split train hashes.
func trainText(t *testing.T, m *Manifest) string {
	t.Helper()
	text := "permafrost.split.v1\n\"train\" \"group\"\n\"row\" int64\n\"label\" int64\n\"url\" utf8\n\"size\" float64\n"
	for i, cached := range []bool{true, true, false} {
		e := m.Splits[0].Encoders[i]
		stored := e.Fingerprint
		if cached && m.Encoder(e.Folder).DType != "float32" {
			stored += "/" + string(m.Encoder(e.Folder).DType)
		}
		text += fmt.Sprintf("%q \"\" %s %v %q\n", e.Name, stored, cached, e.Input)
	}
	le := binary.LittleEndian
	s := goldenFill()
	for row, sample := range s.splits["train"] {
		b := le.AppendUint64([]byte{1}, uint64(row))
		b = le.AppendUint64(append(b, 1), uint64(sample.Label.(int64)))
		str := func(v string) {
			b = le.AppendUint32(append(b, 1), uint32(len(v)))
			b = append(b, v...)
		}
		if v, ok := sample.Keep[0].Value.(string); ok {
			str(v)
		} else {
			b = append(b, 0)
		}
		if v, ok := sample.Keep[1].Value.(float64); ok {
			b = le.AppendUint64(append(b, 1), math.Float64bits(v))
		} else {
			b = append(b, 0)
		}
		for _, u := range s.uses {
			id := encode.Identify(inputOf(t, u, sample, 0))
			str(id.String())
			b = append(append(b, 1), id[:]...)
		}
		text += string(b)
	}
	return text
}

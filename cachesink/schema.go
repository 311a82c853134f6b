package cachesink

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v15/arrow"
	"github.com/apache/arrow/go/v15/arrow/array"
)

// Keys of Arrow schema and field metadata.
const (
	MetaFormat      = "permafrost.format"      // schema: version of the cache's format
	MetaSplit       = "permafrost.split"       // schema: name of the split
	MetaKind        = "permafrost.kind"        // schema: "group" or "pair"
	MetaEncoder     = "permafrost.encoder"     // schema of a shard, field of a sample batch: the encoder's name
	MetaFingerprint = "permafrost.fingerprint" // schema of a shard: the encoder's fingerprint
	MetaSpec        = "permafrost.spec"        // schema of a shard: the declared fields, JSON
	MetaDType       = "permafrost.dtype"       // schema of a shard: dtype of the stored values
	MetaStorage     = "permafrost.storage"     // schema of a shard: all of how it is stored, unless it is plain float32
	MetaBatchSize   = "permafrost.batch_size"  // schema of a shard: objects an object batch
	MetaRole        = "permafrost.role"        // field of a sample batch: RoleKey, RoleID, RoleInput
	MetaSide        = "permafrost.side"        // field of a sample batch: "a" or "b", empty for groups
)

// Roles of the columns that a sample batch has for each encoder and side.
const (
	RoleKey   = "key"   // utf8: the object's key
	RoleID    = "id"    // fixed_size_binary[32]: the object's id under the encoder
	RoleInput = "input" // binary: the canonical bytes of what the encoder reads
	RolePos   = "pos"   // int64: position among the encoder's embeddings
)

// Names of columns.
const (
	ColumnRow       = "row"       // int64: number of the row in its split, from 0
	ColumnLabel     = "label"     // utf8 or int64: the class of a group sample
	ColumnScore     = "score"     // float32: of a pair sample
	ColumnSubgroup  = "subgroup"  // utf8 or int64: of a pair sample
	ColumnID        = "id"        // of a shard and an object batch
	ColumnInput     = "input"     // of an object batch
	ColumnEmbedding = "embedding" // of a shard
	ColumnScale     = "scale"     // float32, of a shard in int8: what the row's values are multiplied by
)

// IDType is the Arrow type of object ids.
var IDType = &arrow.FixedSizeBinaryType{ByteWidth: 32}

// EncoderColumn returns the name of an encoder's column in a split: E_id, or
// E_a_id for a side. An empty role gives the name of the embedding column in
// a replayed batch: E, E_a, E_b.
func EncoderColumn(encoder, side, role string) string {
	name := encoder
	for _, part := range []string{side, role} {
		if part != "" {
			name += "_" + part
		}
	}
	return name
}

// ReservedColumn reports whether a kept column of that name would clash with
// a column that every split of that kind and those encoders has.
func ReservedColumn(name string, encoders []string) bool {
	switch name {
	case ColumnRow, ColumnLabel, ColumnScore, ColumnSubgroup:
		return true
	}
	for _, e := range encoders {
		for _, side := range []string{"", "a", "b"} {
			for _, role := range []string{"", RoleKey, RoleID, RoleInput, RolePos} {
				if name == EncoderColumn(e, side, role) {
					return true
				}
			}
		}
	}
	return false
}

// ObjectSchema is the schema of object batches: what [Fill.Index] emits and
// an encode stage reads.
func ObjectSchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: ColumnID, Type: IDType},
		{Name: ColumnInput, Type: arrow.BinaryTypes.Binary},
	}, nil)
}

// EmbeddingSchema is the schema of what an encode stage emits and
// [Fill.Write] reads: an id and its embedding of dim values.
func EmbeddingSchema(dim int) *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: ColumnID, Type: IDType},
		{Name: ColumnEmbedding, Type: arrow.FixedSizeListOf(int32(dim), arrow.PrimitiveTypes.Float32)},
	}, nil)
}

// shardSchema is the schema of a shard's file, with what it says of itself.
func shardSchema(e *Encoder, spec string, l layout, batchSize int) *arrow.Schema {
	keys := []string{MetaFormat, MetaEncoder, MetaFingerprint, MetaSpec, MetaDType, MetaBatchSize}
	vals := []string{fmt.Sprint(baseVersion), e.Name, e.Fingerprint, spec, string(l.dtype), fmt.Sprint(batchSize)}
	if l != plain {
		vals[0] = fmt.Sprint(storageVersion)
		keys, vals = append(keys, MetaStorage), append(vals, l.String())
	}
	fields := []arrow.Field{
		{Name: ColumnID, Type: IDType},
		{Name: ColumnEmbedding, Type: arrow.FixedSizeListOf(int32(e.Dim), l.dtype.values())},
	}
	if l.dtype == Int8 {
		fields = append(fields, arrow.Field{Name: ColumnScale, Type: arrow.PrimitiveTypes.Float32})
	}
	md := arrow.NewMetadata(keys, vals)
	return arrow.NewSchema(fields, &md)
}

// sampleColumns finds the columns of a sample batch.
type sampleColumns struct {
	split string
	kind  Kind
	plain []int // row, label or score and subgroup, kept columns
	uses  []sampleUse
}

// sampleUse is one encoder on one side.
type sampleUse struct {
	encoder        string
	side           string
	key, id, input int // column numbers
}

// column returns where a role's column number goes, and the column's type.
func (u *sampleUse) column(role string) (*int, arrow.DataType) {
	switch role {
	case RoleKey:
		return &u.key, arrow.BinaryTypes.String
	case RoleID:
		return &u.id, IDType
	case RoleInput:
		return &u.input, arrow.BinaryTypes.Binary
	}
	return nil, nil
}

// nameRule is what names of encoders and splits must match: they become
// names of folders, those of encoders also of columns.
var nameRule = regexp.MustCompile(`^[a-z][a-z0-9_]{0,127}$`)

// parseSampleSchema checks the schema that the package documentation gives
// for sample batches.
func parseSampleSchema(s *arrow.Schema) (*sampleColumns, error) {
	md := s.Metadata()
	c := &sampleColumns{split: metaValue(md, MetaSplit), kind: Kind(metaValue(md, MetaKind))}
	if c.kind != Group && c.kind != Pair {
		return nil, fmt.Errorf("%w: %s is %q, neither group nor pair", ErrSchema, MetaKind, c.kind)
	}
	if !nameRule.MatchString(c.split) {
		return nil, fmt.Errorf("%w: %s is %q, want small letters, digits and _, a letter first", ErrSchema, MetaSplit, c.split)
	}
	for i, f := range s.Fields() {
		role := metaValue(f.Metadata, MetaRole)
		if role == "" {
			c.plain = append(c.plain, i)
			continue
		}
		enc, side := metaValue(f.Metadata, MetaEncoder), metaValue(f.Metadata, MetaSide)
		if n := len(c.uses); n == 0 || c.uses[n-1].encoder != enc || c.uses[n-1].side != side {
			c.uses = append(c.uses, sampleUse{encoder: enc, side: side, key: -1, id: -1, input: -1})
		}
		u := &c.uses[len(c.uses)-1]
		at, want := u.column(role)
		if at == nil || *at >= 0 || !arrow.TypeEqual(f.Type, want) {
			return nil, fmt.Errorf("%w: column %q is %v in the role %q", ErrSchema, f.Name, f.Type, role)
		}
		*at = i
	}
	for _, u := range c.uses {
		if u.key < 0 || u.id < 0 || u.input < 0 || !slices.Contains(c.kind.Sides(), u.side) {
			return nil, fmt.Errorf("%w: encoder %q, side %q: no such side, or without key, id or input", ErrSchema, u.encoder, u.side)
		}
	}
	return c, c.checkPlain(s)
}

// fixed returns the columns that every split of a kind has, with the types
// that they may have.
func (k Kind) fixed() map[string][]arrow.Type {
	m := map[string][]arrow.Type{ColumnRow: {arrow.INT64}}
	if k == Group {
		m[ColumnLabel] = []arrow.Type{arrow.STRING, arrow.INT64}
		return m
	}
	m[ColumnScore] = []arrow.Type{arrow.FLOAT32}
	m[ColumnSubgroup] = []arrow.Type{arrow.STRING, arrow.INT64}
	return m
}

// checkPlain holds the columns without a role to their names and types.
func (c *sampleColumns) checkPlain(s *arrow.Schema) error {
	var encoders []string
	for _, u := range c.uses {
		encoders = append(encoders, u.encoder)
	}
	need := c.kind.fixed()
	seen := map[string]bool{}
	for _, i := range c.plain {
		f := s.Field(i)
		want, fixed := need[f.Name]
		switch {
		case seen[f.Name]:
			return fmt.Errorf("%w: two columns %q", ErrSchema, f.Name)
		case fixed && !slices.Contains(want, f.Type.ID()), !storable(f.Type):
			return fmt.Errorf("%w: column %q is %v", ErrSchema, f.Name, f.Type)
		case !fixed && ReservedColumn(f.Name, encoders):
			return fmt.Errorf("%w: column %q has the name of one that the cache makes", ErrSchema, f.Name)
		}
		seen[f.Name] = true
	}
	for name := range need {
		if !seen[name] {
			return fmt.Errorf("%w: no column %q", ErrSchema, name)
		}
	}
	return nil
}

// checkNulls refuses nulls outside of kept columns.
func (c *sampleColumns) checkNulls(rec arrow.Record) error {
	fixed := c.kind.fixed()
	for i, a := range rec.Columns() {
		if a.NullN() == 0 {
			continue
		}
		f := rec.Schema().Field(i)
		if _, ok := fixed[f.Name]; ok || metaValue(f.Metadata, MetaRole) != "" {
			return fmt.Errorf("%w: split %q: nulls in column %q", ErrSchema, c.split, f.Name)
		}
	}
	return nil
}

// storable says which types a split's plain columns may have.
func storable(t arrow.DataType) bool {
	switch t.ID() {
	case arrow.INT64, arrow.FLOAT32, arrow.FLOAT64, arrow.STRING, arrow.BINARY, arrow.BOOL:
		return true
	}
	return false
}

func metaValue(md arrow.Metadata, key string) string {
	if i := md.FindKey(key); i >= 0 {
		return md.Values()[i]
	}
	return ""
}

// column returns a record batch's column as the given array type.
func column[A arrow.Array](rec arrow.Record, name string) (A, error) {
	var none A
	at := rec.Schema().FieldIndices(name)
	if len(at) != 1 {
		return none, fmt.Errorf("%w: %d columns %q in (%s)", ErrSchema, len(at), name, columnNames(rec.Schema()))
	}
	a, ok := rec.Column(at[0]).(A)
	if !ok {
		return none, fmt.Errorf("%w: column %q is %v", ErrSchema, name, rec.Column(at[0]).DataType())
	}
	return a, nil
}

func columnNames(s *arrow.Schema) string {
	names := make([]string, len(s.Fields()))
	for i, f := range s.Fields() {
		names[i] = f.Name
	}
	return strings.Join(names, ", ")
}

// idColumn returns the object ids of a record batch, 32 bytes each. They
// share its memory.
func idColumn(rec arrow.Record) ([]byte, error) {
	a, err := column[*array.FixedSizeBinary](rec, ColumnID)
	if err != nil {
		return nil, err
	}
	if !arrow.TypeEqual(a.DataType(), IDType) || a.NullN() > 0 {
		return nil, fmt.Errorf("%w: ids are %v, with %d nulls", ErrSchema, a.DataType(), a.NullN())
	}
	buf := a.Data().Buffers()[1]
	if a.Len() == 0 || buf == nil {
		return nil, nil
	}
	off := a.Data().Offset()
	if (off+a.Len())*idBytes > buf.Len() {
		return nil, fmt.Errorf("%w: %d bytes for %d ids", ErrSchema, buf.Len(), a.Len())
	}
	return buf.Bytes()[off*idBytes : (off+a.Len())*idBytes], nil
}

// Vectors returns the values of an embedding column, row by row, and their
// dimension. They share the array's memory and must not be used after its
// release.
func Vectors(a arrow.Array) (vecs []float32, dim int, err error) {
	list, ok := a.(*array.FixedSizeList)
	if !ok {
		return nil, 0, fmt.Errorf("%w: embeddings are %v", ErrSchema, a.DataType())
	}
	dim = int(list.DataType().(*arrow.FixedSizeListType).Len())
	vecs, err = vectors(list, dim)
	return vecs, dim, err
}

func vectors(a *array.FixedSizeList, dim int) ([]float32, error) {
	v, ok := a.ListValues().(*array.Float32)
	if n := a.DataType().(*arrow.FixedSizeListType).Len(); !ok || int(n) != dim {
		return nil, fmt.Errorf("%w: embeddings are %v, not %d of float32", ErrSchema, a.DataType(), dim)
	}
	if a.NullN() > 0 || v.NullN() > 0 {
		return nil, fmt.Errorf("%w: embeddings with nulls", ErrSchema)
	}
	off := a.Offset() * dim
	if off+a.Len()*dim > v.Len() {
		return nil, fmt.Errorf("%w: %d values for %d embeddings of %d", ErrSchema, v.Len(), a.Len(), dim)
	}
	return v.Float32Values()[off : off+a.Len()*dim], nil
}

// Package pipeline declares and runs the whole of it: frozen encoders run
// once, every later epoch trains on what they gave.
//
// # The flow
//
// [New] validates a [Config] and starts nothing. [Pipeline.Plan] says what is
// stored and what is to be encoded, and opens no encoder. [Pipeline.Fill]
// reads the splits, encodes each distinct object that the cache lacks, and
// commits. [Pipeline.Epoch] replays a split in the order that the seed and
// the epoch give, in the batches of a sampler where one is declared.
// [Pipeline.Run] does all of that and trains a head; [Load] opens what it
// wrote, to embed new objects.
//
//	rows -> samples -> ids and dedup -> encoders -> cache -> replay -> head, loss, metrics
//
// A config is written in Go, over any type of rows, or in YAML, see
// [LoadConfig]. Both declare the same thing: the plan, the bytes of the cache
// and the trained weights are equal. Every stage of the flow is an exported
// one of packages source, encode, cachesink and stage; the example "ByHand"
// composes a fill of them.
//
//	p, err := pipeline.New(pipeline.Config[row]{
//		Splits: pipeline.Splits[row]{
//			"train": source.JSONL[row]("train.jsonl"),
//			"val":   source.JSONL[row]("val.jsonl"),
//		},
//		Sample:   func(r row) pipeline.Sample { return pipeline.Pair(encode.Text(r.Question), encode.Text(r.Answer)) },
//		Version:  "1",
//		Encoders: pipeline.Encoders{"content_encoder": static.Default()},
//		Cache:    &pipeline.CacheConfig{SaveDir: "cache_dir"},
//		Head:     head.SkipConnection{},
//		Loss:     loss.MultipleNegativesRanking{Symmetric: true},
//		Output:   "out",
//	})
//	if err != nil {
//		return err
//	}
//	defer p.Close()
//	result, err := p.Run(ctx)
//
// # What is reused
//
// An embedding is found by the content that its encoder reads and by the
// encoder's declared fingerprint, never by a place, a time or a key. So a
// changed row or encoder is never answered from the old cache, and a moved
// file, other workers or another batch size cost no encode. With
// [Config].Version, and sources that have an identity, a fill that finds
// everything stored does not open the dataset either.
//
// # Training
//
// While a head is trained, its log and its checkpoints lie beside the output,
// in a folder of that name with .training behind it: metrics.jsonl (see
// [train.Record]), event files of TensorBoard and, where Train.Checkpoints are
// declared, last.safetensors, from which the next run of the same config goes
// on. A run that is done moves them into the output. [Pipeline.Sweep] trains
// variants on one fill. [Trainable] declares encoders that are trained with
// the head.
//
// Errors wrap [ErrConfig], [ErrGPUUnavailable], [ErrWouldEncode], [ErrNotOurs]
// or those of the packages below, such as cachesink.ErrCorrupt. The end of a
// context comes back as its cause.
package pipeline

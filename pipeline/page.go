package pipeline

import (
	"context"

	"github.com/permafrost-ml/permafrost/pipeline/report"
	"github.com/permafrost-ml/permafrost/pipeline/train"
)

// page gathers what the HTML report shows. eval is nil where nothing was
// measured.
func (p *Pipeline[Row]) page(ctx context.Context, res *Result, trained *train.Result, eval *evaluation) (*report.Data, error) {
	encoders, err := p.encoders(ctx)
	if err != nil {
		return nil, err
	}
	split := p.filled[p.cfg.TrainSplit]
	d := &report.Data{
		SchemaVersion: 1,
		Train: report.Train{
			Split: p.cfg.TrainSplit, Rows: split.Rows, BatchSize: p.cfg.Train.BatchSize, Seed: p.cfg.Seed,
			Head:      report.Module{Type: p.cfg.Head.Type(), Params: p.cfg.Head.Params()},
			Loss:      report.Module{Type: p.cfg.Loss.Type(), Params: p.cfg.Loss.Params()},
			Optimizer: report.Module{Type: p.cfg.Train.Optimizer.Type(), Params: p.cfg.Train.Optimizer.Params()},
			In:        trained.Head.In(), Out: trained.Head.Out(),
		},
		Times: report.Times{
			FillSeconds: res.Fill.Seconds, Rows: res.Fill.Rows,
			Objects: res.Fill.Objects, Encoded: res.Fill.Encoded, Reused: res.Fill.Reused,
			FirstEpochSeconds: res.Train.FirstEpochSeconds, EpochSeconds: res.Train.MedianEpochSeconds,
			SamplesPerSecond: res.Train.SamplesPerSecond, EncodedPerSecond: res.Fill.EncodedPerSecond,
		},
		Cache: report.Cache{Dir: res.Cache.Dir, Bytes: res.Cache.Bytes, Generation: res.Cache.Generation},
	}
	for _, e := range trained.Epochs {
		d.Epochs = append(d.Epochs, report.Epoch{
			Epoch: e.Epoch, Loss: e.Loss, LR: e.LR, Seconds: e.Duration.Seconds(), Validation: e.Validation, Best: e.Best,
		})
		d.Times.TrainSeconds += e.Duration.Seconds()
	}
	for _, e := range encoders {
		r := res.Fill.Encoders[e.name]
		re := report.Encoder{
			Name: e.name, Engine: e.spec.Engine, Dim: r.Dim, CacheType: string(r.CacheType), DType: string(r.DType),
			Objects: r.Objects, Reads: e.reads.String(), Fingerprint: r.Fingerprint, Fields: e.use.Spec,
		}
		if c := p.trained[e.name]; c != nil {
			re.Trained = &report.Module{Type: c.Type(), Params: c.Params()}
		}
		d.Encoders = append(d.Encoders, re)
		if e.use.Cached {
			d.Times.EpochObjects += split.Rows * int64(len(split.Kind.Sides()))
		}
	}
	if eval != nil {
		e := eval.report
		d.Eval = &report.Eval{
			Split: e.Split, Objects: e.Objects, Queries: e.Queries, Baseline: e.Baseline, Tuned: e.Tuned,
			BaselineDeviation: e.BaselineDeviation, TunedDeviation: e.TunedDeviation,
		}
		if e.Sample != nil {
			d.Eval.Repeats = e.Sample.Repeats
		}
		d.Examples = eval.examples.found
	}
	return d, nil
}

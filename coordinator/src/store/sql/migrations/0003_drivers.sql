-- Which coordinator drives a run. The epoch is raised with every change of the driver, the beat while it lives.
ALTER TABLE runs ADD COLUMN driver TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN driver_epoch BIGINT NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN driver_beat BIGINT NOT NULL DEFAULT 0;

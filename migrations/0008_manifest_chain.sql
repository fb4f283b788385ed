-- The day whose manifest was written last: the next manifest of the stream, whatever its day, names that one by its
-- hash. NULL in states from before: the newest sealed day stands for it.
ALTER TABLE checkpoints ADD COLUMN last_sealed INTEGER;

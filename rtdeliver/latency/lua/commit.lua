-- Keeps what a joiner has joined of a partition, if it still owns that.
--
-- ARGV[1]  prefix
-- ARGV[2]  joiner
-- ARGV[3]  partition
-- ARGV[4]  for how many milliseconds to keep it
-- ARGV[5]  what was joined
--
-- Returns 1 if the joiner owns the partition, otherwise 0.

if redis.call('GET', ARGV[1] .. 'latency:owner:' .. ARGV[3]) ~= ARGV[2] then
  return 0
end
redis.call('SET', ARGV[1] .. 'latency:joined:' .. ARGV[3], ARGV[5], 'PX', ARGV[4])
return 1

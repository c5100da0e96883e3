-- Gives up partitions, so that other joiners can take them.
--
-- ARGV[1]     prefix
-- ARGV[2]     joiner
-- ARGV[3]     1 if the joiner goes, otherwise 0
-- ARGV[4...]  partitions
--
-- Returns 1.

for i = 4, #ARGV do
  local key = ARGV[1] .. 'latency:owner:' .. ARGV[i]
  if redis.call('GET', key) == ARGV[2] then
    redis.call('DEL', key)
  end
end
if ARGV[3] == '1' then
  redis.call('ZREM', ARGV[1] .. 'latency:joiners', ARGV[2])
end
return 1

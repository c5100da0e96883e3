-- Renews what a joiner owns, and lets it take its share of the partitions that nobody owns.
--
-- Keys; each begins with the prefix:
--
--   latency:joiners    sorted set of the joiners, by when their leases end
--   latency:owner:N    the joiner that owns partition N; expires with its lease
--   latency:wanted     expires some time after records were last read here
--   latency:records:N  stream of the records of partition N, read by the group `joiners`
--   latency:joined:N   what the owner of partition N has joined
--
-- ARGV[1]  prefix
-- ARGV[2]  joiner
-- ARGV[3]  lease in milliseconds
-- ARGV[4]  how many partitions there are
--
-- Returns {partitions to keep, partitions to give up}. Those to keep may be new. Those to give up
-- are not renewed.

local prefix, joiner, lease, partitions = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local joiners = prefix .. 'latency:joiners'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

redis.call('ZADD', joiners, now + lease, joiner)
redis.call('ZREMRANGEBYSCORE', joiners, '-inf', now)
redis.call('PEXPIRE', joiners, lease)
local share = math.ceil(partitions / redis.call('ZCARD', joiners))

local keep, give, free = {}, {}, {}
for number = 0, partitions - 1 do
  local key = prefix .. 'latency:owner:' .. number
  local owner = redis.call('GET', key)
  if not owner then
    free[#free + 1] = number
  elseif owner == joiner and #keep < share then
    redis.call('PEXPIRE', key, lease)
    keep[#keep + 1] = number
  elseif owner == joiner then
    give[#give + 1] = number
  end
end
for _, number in ipairs(free) do
  if #keep == share then
    break
  end
  redis.call('SET', prefix .. 'latency:owner:' .. number, joiner, 'PX', lease)
  keep[#keep + 1] = number
end
return {keep, give}

-- Keeps revocations. `common.lua` runs before this.
--
-- ARGV[3]     how many are kept at most
-- ARGV[4...]  for each: its name, when it was given, when it ends, and its text
--
-- Returns 1 if they are kept, and 0 if there was no room for one of them.

local most = tonumber(ARGV[3])
for i = 4, #ARGV, 4 do
  local name, at, ends, text = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local before = tonumber(redis.call('HGET', times_key, name) or -1)
  if before < tonumber(at) and tonumber(ends) > now then
    if before < 0 and redis.call('HLEN', times_key) >= most then
      return 0
    end
    redis.call('HSET', texts_key, name, text)
    redis.call('HSET', times_key, name, at)
    redis.call('ZADD', order_key, redis.call('HINCRBY', store_key, 'last', 1), name)
    redis.call('ZADD', ends_key, ends, name)
  end
end
return 1

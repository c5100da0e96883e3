-- The first part of every script on which topics have viewers.
--
-- Keys; each begins with the prefix. Times are in milliseconds since the epoch, by the clock of
-- Redis.
--
--   occupancy:TOPIC  hash; it expires a day after a sweep should have looked at it
--     occupied       1 or 0
--     changed        when that changed
--     claimed        when another caller may publish the change; 0 once it is published
--   occupied         sorted set: the topics by the times at which a sweep must look at them
--
-- The rows are those of the routing table: see rtdeliver/routing/lua/common.lua.
--
-- ARGV[1]  prefix
-- ARGV[2]  milliseconds after which an occupied topic is looked at again

local prefix, recheck = ARGV[1], tonumber(ARGV[2])
local now = redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local due_key, day = prefix .. 'occupied', 86400000

local function text(number)
  return string.format('%.0f', number)
end

-- Returns the entry of a topic, or nil.
local function read(topic)
  local held = redis.call('HMGET', prefix .. 'occupancy:' .. topic, 'occupied', 'changed', 'claimed')
  if not held[1] then
    return nil
  end
  return {occupied = held[1] == '1', changed = tonumber(held[2]), claimed = tonumber(held[3])}
end

-- Writes the entry of a topic. One that is vacated stays for a while after that was told, so that
-- the next change is later.
local function write(topic, entry)
  local key = prefix .. 'occupancy:' .. topic
  local due = entry.claimed > 0 and entry.claimed or now + recheck
  redis.call('HSET', key, 'occupied', entry.occupied and '1' or '0', 'changed',
    text(entry.changed), 'claimed', text(entry.claimed))
  redis.call('PEXPIRE', key, text(due - now + day))
  redis.call('ZADD', due_key, text(due), topic)
  redis.call('PEXPIRE', due_key, text(recheck + 2 * day))
end

local function forget(topic)
  redis.call('DEL', prefix .. 'occupancy:' .. topic)
  redis.call('ZREM', due_key, topic)
end

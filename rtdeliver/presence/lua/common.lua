-- The first part of every script that changes who is online.
--
-- Keys of presence; each begins with the prefix. Times are in milliseconds since the epoch, by the
-- clock of Redis.
--
--   member:MEMBER  hash
--     online       1 or 0
--     heartbeat    when the last heartbeat came
--     ends         when the member goes offline, unless another heartbeat comes before
--     changed      when the member last came online or went offline
--     before       when the change before that happened; 0 if that change is published
--     claimed      when another caller may publish the change; 0 once it is published
--   members        sorted set: each member by the time at which a sweep must look at it
--
-- `member:MEMBER` expires a day after its `ends`, and `members` a day after that of the last
-- heartbeat, in case no dispatcher is left to sweep.
--
-- ARGV[1]  prefix

local prefix, now = ARGV[1], redis.call('TIME')
now = now[1] * 1000 + math.floor(now[2] / 1000)
local members_key, day = prefix .. 'members', 86400000

local function key(member)
  return prefix .. 'member:' .. member
end

-- Returns the entry of a member, or nil.
local function read(member)
  local held = redis.call('HMGET', key(member), 'online', 'ends', 'changed', 'before', 'claimed')
  if not held[1] then
    return nil
  end
  return {online = held[1] == '1', ends = tonumber(held[2]), changed = tonumber(held[3]),
    before = tonumber(held[4]), claimed = tonumber(held[5])}
end

-- Returns a time as Redis keeps it: whole milliseconds, in digits.
local function text(number)
  return string.format('%.0f', number)
end

local function write(member, entry)
  redis.call('HSET', key(member), 'online', entry.online and '1' or '0', 'ends', text(entry.ends),
    'changed', text(entry.changed), 'before', text(entry.before), 'claimed', text(entry.claimed))
  redis.call('PEXPIRE', key(member), text(math.max(0, entry.ends - now) + day))
  local due = entry.claimed
  if entry.online and (due == 0 or entry.ends < due) then
    due = entry.ends
  end
  redis.call('ZADD', members_key, text(due), member)
end

-- Makes an online member offline, or an offline member online. The caller has `claim` milliseconds
-- to publish that.
local function flip(entry, claim)
  entry.online = not entry.online
  entry.before = entry.claimed > 0 and entry.changed or 0
  entry.changed = math.max(now, entry.changed + 1)
  entry.claimed = now + claim
end

-- What the caller must publish; for each member:
--   {name, 1 if online or 0 if offline, when that changed, when the change before happened}
-- The last is 0 if the change before is published.
local changes = {}

local function add_change(member, entry)
  changes[#changes + 1] = {member, entry.online and 1 or 0, text(entry.changed), text(entry.before)}
end

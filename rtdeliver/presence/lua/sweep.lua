-- Looks at the members that are due. Members without a heartbeat in time go offline. A change that
-- was not published in time is given to the caller. `common.lua` runs before this.
--
-- ARGV[1]  prefix
-- ARGV[2]  how many members to look at, at most
-- ARGV[3]  milliseconds within which the caller must publish a change
--
-- Returns {`changes`, milliseconds until the next member is due}. The latter is an empty string if
-- there is no member.

local limit, claim = ARGV[2], tonumber(ARGV[3])
for _, member in ipairs(
  redis.call('ZRANGEBYSCORE', members_key, '-inf', text(now), 'LIMIT', 0, limit)
) do
  local entry = read(member)
  if entry then
    if entry.online and entry.ends <= now then
      flip(entry, claim)
    else
      entry.claimed = now + claim
    end
    add_change(member, entry)
    write(member, entry)
  else
    redis.call('ZREM', members_key, member)
  end
end

local first = redis.call('ZRANGE', members_key, 0, 0, 'WITHSCORES')
return {changes, first[2] and text(tonumber(first[2]) - now) or ''}
